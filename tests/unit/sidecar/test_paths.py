"""Where a path leads, however it is spelled."""

import pytest

from headwater.sidecar.paths import BATCHES, COUNT_TOKENS, MESSAGES, Way, place_of

SPELLED = [
    "/v1/messages",
    "/v1//messages",
    "/v1/messages/",
    "/v1/%6Dessages",
    "/v1/%256Dessages",
    "/v1/messages?beta=true",
    "/v1/messages#x",
    "/v1/messages%23x",
    "/v1/messages%3Fx",
    "/V1/Messages",
    "/v1/messages;x=1",
    "/v1;a/messages;b",
    "/v1/./messages",
    "/v1/x/../messages",
    "/v1\\messages",
    "/v1/messages%20",
    "/v1/messages.",
    "//v1/messages",
    "http://api.example.com/v1/messages",
]


@pytest.mark.parametrize("target", SPELLED)
def test_a_path_is_what_anybody_may_read_it_as(target: str) -> None:
    """A gateway that folds what the provider does not must not see another path than we do."""
    assert place_of(b"POST", target.encode()) == (Way.CONTRACT, MESSAGES, "contract")


@pytest.mark.parametrize("path", [COUNT_TOKENS, BATCHES])
def test_all_three_get_the_contract(path: str) -> None:
    assert place_of(b"POST", path.encode()) == (Way.CONTRACT, path, "contract")


@pytest.mark.parametrize(
    "target",
    [
        "/anthropic/v1/messages",
        "/v1/v1/messages",
        "/p/team/house/v1/messages",
        "/v1/complete",
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/deployments/gpt/chat/completions",
        "/v1/responses",
        "/v1/sessions/s/events",
        "/model/anthropic.claude-v1/invoke",
        "/model/anthropic.claude-v1/invoke-with-response-stream",
        "/model/anthropic.claude-v1/converse",
        "/v1/projects/p/locations/l/publishers/anthropic/models/claude:rawPredict",
        "/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict",
        "/v1beta/models/gemini:generateContent",
        "/v1beta/models/gemini%3AstreamGenerateContent",
        "/api/generate",
    ],
)
def test_other_ways_to_a_model(target: str) -> None:
    assert place_of(b"POST", target.encode()).way is Way.MODEL


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", "/v1/models"),
        (b"POST", "/v1/files"),
        (b"POST", "/v1/skills/s/versions"),
        (b"POST", "/v1/oauth/token"),
        (b"GET", BATCHES),
        (b"POST", f"{BATCHES}/msgbatch_1/cancel"),
        (b"DELETE", f"{BATCHES}/msgbatch_1"),
        (b"GET", "/v1/messages/batches/msgbatch_1/results"),
        (b"GET", "/anything"),
    ],
)
def test_what_reaches_no_model(method: bytes, target: str) -> None:
    assert place_of(method, target.encode()).way is Way.BESIDE


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"PATCH"])
def test_no_other_method_passes_to_the_same_path(method: bytes) -> None:
    """A gateway may take the method from a header."""
    assert place_of(method, MESSAGES.encode()).way is Way.MODEL


@pytest.mark.parametrize("target", ["/", "*", "/v1", "/v2/new", "/v1/something_new", "/%ff"])
def test_what_nobody_knows(target: str) -> None:
    assert place_of(b"POST", target.encode()).way is Way.UNKNOWN
