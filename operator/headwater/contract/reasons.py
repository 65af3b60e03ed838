"""Why a request is off the contract: one enumeration for sidecar, metrics, Events and docs."""

from enum import StrEnum

from headwater.contract.errors import HeadwaterError


class Reason(StrEnum):
    """Which rule a request breaks; the value is a metric's label and stands in the docs."""

    NOT_JSON = "not_json"
    MALFORMED = "malformed"
    OTHER_MODEL = "other_model"
    OWN_TOOLS = "own_tools"
    TOOLS_ORDER = "tools_order"
    TOOLS_CHANGED = "tools_changed"
    TOOLS_MISSING = "tools_missing"
    SYSTEM_BEFORE = "system_before"
    SYSTEM_ORDER = "system_order"
    SYSTEM_CHANGED = "system_changed"
    SYSTEM_MISSING = "system_missing"
    TOO_MANY_MARKERS = "too_many_markers"
    TTL_ORDER = "ttl_order"
    MODEL_CHANGED = "model_changed"
    THINKING_CHANGED = "thinking_changed"
    EFFORT_CHANGED = "effort_changed"
    SPEED_CHANGED = "speed_changed"
    OTHER_PATH = "other_path"
    NO_BUNDLE = "no_bundle"


class RefusalError(HeadwaterError):
    """A request that would break the shared prefix, or that cannot be read.

    Attributes:
        reason: which rule; the message says what to do.
        place: the first part of the request that differs from the contract, as the client sent
            it: `tools[3]`, `system[0]`, `model`. Empty where it is the body as a whole.
    """

    def __init__(self, reason: Reason, message: str, place: str = "") -> None:
        """Keep rule and place apart from the sentence: those are counted, it is read."""
        self.reason = reason
        self.place = place
        super().__init__(message)
