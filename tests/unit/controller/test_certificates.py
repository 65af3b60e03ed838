"""When a certificate or an authority is made, and what of a Secret can be used."""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.controller.certificates import (
    Current,
    Due,
    IssueLeaf,
    Keep,
    Material,
    RotateCA,
    Validity,
    certificates_due,
    issue,
    read,
    rotate,
)
from headwater.controller.objects import Key

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SERVICE = Key("headwater", "webhook")


def day(number: float) -> datetime:
    return START + number * DAY


CURRENT = Current(
    authority=Validity(day(0), day(300)),
    certificate=Validity(day(0), day(30)),
    by_newest=True,
    announced=day(0),
)
MADE_NEW = replace(
    CURRENT, authority=Validity(day(10), day(310)), by_newest=False, announced=day(11)
)
MINUTES = timedelta(minutes=5)


@pytest.mark.parametrize(
    ("now", "current", "expected"),
    [
        pytest.param(day(0), None, RotateCA, id="nothing there yet"),
        pytest.param(day(1), CURRENT, Keep(day(20)), id="young"),
        pytest.param(day(19.9), CURRENT, Keep(day(20)), id="just before two thirds"),
        pytest.param(day(20), CURRENT, IssueLeaf, id="two thirds of the certificate"),
        pytest.param(day(31), CURRENT, IssueLeaf, id="it expired while nobody was there"),
        pytest.param(day(200), CURRENT, RotateCA, id="two thirds of the authority"),
        pytest.param(day(400), CURRENT, RotateCA, id="the authority expired"),
        pytest.param(day(1), replace(CURRENT, certificate=None), IssueLeaf, id="no certificate"),
        pytest.param(
            day(11),
            replace(MADE_NEW, announced=None),
            Keep(day(30)),
            id="a new authority that is not announced makes nothing",
        ),
        pytest.param(
            day(11),
            MADE_NEW,
            Keep(day(11) + MINUTES),
            id="a new authority that may not be known everywhere makes nothing",
        ),
        pytest.param(day(11) + MINUTES, MADE_NEW, IssueLeaf, id="a new authority that is known"),
        pytest.param(
            day(30),
            replace(MADE_NEW, announced=None),
            IssueLeaf,
            id="what has expired is trusted by nobody: there is nothing to lose",
        ),
        pytest.param(
            day(20),
            replace(CURRENT, announced=None),
            Keep(day(30)),
            id="after a restart the configurations are looked at first",
        ),
    ],
)
def test_what_is_due(now: datetime, current: Current | None, expected: object) -> None:
    """One thing at a time, and otherwise when to look again."""
    found = certificates_due(now, current)
    assert (
        found == expected
        if isinstance(expected, Keep)
        else isinstance(found, type(expected) if not isinstance(expected, type) else expected)
    )


def made(now: datetime = START) -> Material:
    return issue(rotate(None, 300 * DAY, now), SERVICE, 30 * DAY, now)


def test_what_was_written_is_read_again() -> None:
    """A new leader goes on with what the former one made."""
    material = made()
    found = read(material.data())
    assert found is not None
    assert found.data() == material.data()


def without(name: str) -> Callable[[dict[str, str]], None]:
    return lambda data: data.__delitem__(name)


def spoilt(name: str, content: str) -> Callable[[dict[str, str]], None]:
    return lambda data: data.__setitem__(name, base64.b64encode(content.encode()).decode())


@pytest.mark.parametrize(
    "spoil",
    [
        without("ca.crt"),
        without("ca.key"),
        spoilt("ca.crt", "no certificate"),
        spoilt("ca.key", "no key"),
        lambda data: data.update({"ca.key": data["tls.key"]}),
        lambda data: data.update({"ca.key": "no base64!"}),
    ],
)
def test_an_authority_without_its_key_is_of_no_use(
    spoil: Callable[[dict[str, str]], None],
) -> None:
    """Nothing can be made with it, so everything is made anew."""
    data = made().data()
    spoil(data)
    assert read(data) is None


@pytest.mark.parametrize(
    "spoil",
    [
        without("tls.crt"),
        without("tls.key"),
        spoilt("tls.crt", ""),
        lambda data: data.update({"tls.key": data["ca.key"]}),
        lambda data: data.update({name: made().data()[name] for name in ("tls.crt", "tls.key")}),
    ],
)
def test_of_half_a_secret_the_authority_is_kept(spoil: Callable[[dict[str, str]], None]) -> None:
    """A certificate that does not fit, or that another authority made, is made again."""
    data = made().data()
    spoil(data)
    found = read(data)
    assert found is not None
    assert found.certificate is None
    assert isinstance(certificates_due(START, found.current(SERVICE, None)), IssueLeaf)


def test_a_certificate_for_another_service_is_made_again() -> None:
    """Someone gave the Service another name."""
    current = made().current(Key("headwater", "other"), START)
    assert isinstance(certificates_due(START, current), IssueLeaf)


def next_due(material: Material | None, announced: datetime | None, now: datetime) -> Due:
    current = material.current(SERVICE, announced) if material is not None else None
    return certificates_due(now, current)


@settings(max_examples=25, deadline=None)
@given(
    authority=st.integers(60, 400),
    certificate=st.integers(20, 60),
    steps=st.lists(st.floats(0.5, 15), min_size=5, max_size=30),
)
def test_what_is_served_is_always_trusted(
    authority: int, certificate: int, steps: list[float]
) -> None:
    """Whenever it is looked after, at any pace; the former certificate as well as the new one."""
    now, announced = START, None
    material: Material | None = None
    served: list[object] = []
    for step in steps:
        while not isinstance(due := next_due(material, announced, now), Keep):
            if isinstance(due, RotateCA):
                material, announced = rotate(material, authority * DAY, now), None
            else:
                assert material is not None
                material = issue(material, SERVICE, certificate * DAY, now)
        assert material is not None
        assert material.certificate is not None
        if announced is None:
            announced = now
        served = [*served[-1:], material.certificate]
        trusted = {ca.subject for ca in material.authorities if ca.not_valid_after_utc > now}
        for leaf in served:
            assert leaf.not_valid_after_utc <= now or leaf.issuer in trusted  # type: ignore[attr-defined]
        now += step * DAY
