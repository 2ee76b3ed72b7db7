"""The envelope: which attributes an entry needs, and what each may hold."""

from __future__ import annotations

import pytest

from daemon.errors import BadEvent
from daemon.events.envelope import MAX_BYTES, claimed_rows, envelope
from daemon.types import Envelope, Limits
from tests.support.raw import Fields, entry, fields, replaced

LIMITS = Limits(max_rows=1000)
FULL: dict[str, str | bytes | None] = {
    "id": "e1",
    "source": "camera/7",
    "time": "2026-01-31T12:00:00.5+01:00",
    "datacontenttype": "Application/JSON; charset=UTF-8",
    "mtlhop": "2",
    "mtlrows": "64",
    "traceparent": "00-1-2-03",
}


def event(**attributes: str | bytes | None) -> Fields:
    """A full envelope with some attributes replaced."""
    return replaced(fields("mtl.data.v1", "digits", b"data"), {**FULL, **attributes})


def refusal(found: Fields, limits: Limits = LIMITS) -> str:
    """The reason for which an envelope is refused."""
    with pytest.raises(BadEvent) as caught:
        envelope(entry(found), limits)
    return caught.value.reason


def test_all_attributes_are_taken_over() -> None:
    assert envelope(entry(event(), "5-1"), LIMITS) == Envelope(
        entry_id="5-1",
        id="e1",
        source="camera/7",
        type="mtl.data.v1",
        subject="digits",
        time="2026-01-31T12:00:00.5+01:00",
        content_type="application/json",
        data=b"data",
        hop=2,
        rows=64,
    )


def test_optional_attributes_may_be_absent() -> None:
    least = event(
        **dict.fromkeys(("time", "datacontenttype", "mtlhop", "mtlrows", "subject", "data"))
    )
    found = envelope(entry(least), LIMITS)
    assert (found.subject, found.time, found.rows) == (None, None, None)
    assert (found.content_type, found.data, found.hop) == ("application/json", b"", 0)


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_a_required_attribute_must_be_there(name: str) -> None:
    assert refusal(event(**{name: None})) == "missing_field"


@pytest.mark.parametrize("name", [name.decode() for name in MAX_BYTES])
def test_an_attribute_is_refused_when_empty_too_long_not_utf8_or_not_printable(name: str) -> None:
    longest = MAX_BYTES[name.encode()]
    assert refusal(event(**{name: ""})) == "bad_field_length"
    assert refusal(event(**{name: "a" * (longest + 1)})) == "bad_field_length"
    assert refusal(event(**{name: b"a\xff"})) == "invalid_utf8"
    assert refusal(event(**{name: b"\xed\xa0\x80"})) == "invalid_utf8"  # half a surrogate pair
    assert refusal(event(**{name: "a\0"})) == "control_characters"


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_an_attribute_may_be_as_long_as_its_limit(name: str) -> None:
    longest = "ö" * (MAX_BYTES[name.encode()] // 2)
    assert longest in vars_of(envelope(entry(event(**{name: longest})), LIMITS))


def vars_of(found: Envelope) -> tuple[str, ...]:
    """The texts of an envelope."""
    return (found.id, found.source, found.type)


@pytest.mark.parametrize("version", ["0.3", "1", "1.0.2", "1.1", "2.0", "", b"\xff"])
def test_only_one_specversion_is_understood(version: str | bytes) -> None:
    assert refusal(event(specversion=version)) == "unsupported_specversion"


@pytest.mark.parametrize(
    "time", ["2026-01-31T12:00:00Z", "2026-12-31t23:59:60z", "2026-01-31 12:00:00.123456-09:30"]
)
def test_rfc_3339_is_a_time(time: str) -> None:
    assert envelope(entry(event(time=time)), LIMITS).time == time


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-13-31T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "1767225600",
        "²026",
    ],
)
def test_anything_else_is_no_time(time: str) -> None:
    assert refusal(event(time=time)) == "bad_time"


@pytest.mark.parametrize(
    "kind", ["application/json; charset=latin-1", "text/plain; charset=utf-8; a=b"]
)
def test_another_charset_is_refused(kind: str) -> None:
    assert refusal(event(datacontenttype=kind)) == "unknown_content_type"


@pytest.mark.parametrize("hop", ["4", "-1", "01", "", "one", b"\xff"])
def test_a_hop_is_0_to_3(hop: str | bytes) -> None:
    assert refusal(event(mtlhop=hop)) == "too_many_hops"


@pytest.mark.parametrize("rows", ["-1", "1.0", "", "0x10", "007", "1001", "9" * 30, "²", b"\xff"])
def test_a_row_count_is_a_number_within_the_limit(rows: str | bytes) -> None:
    assert refusal(event(mtlrows=rows)) == "bad_mtlrows"


@pytest.mark.parametrize(
    ("rows", "claimed"), [("64", 64), ("0", 0), ("many", 0), ("9" * 30, 0), (None, 0)]
)
def test_rows_are_claimed_also_by_what_cannot_be_parsed(rows: str | None, claimed: int) -> None:
    assert claimed_rows(entry(event(mtlrows=rows, specversion="9"))) == claimed


def test_the_size_of_all_names_and_values_counts_first() -> None:
    found = event(id=None)
    size = sum(len(name) + len(value) for name, value in found.items())
    assert refusal(found, Limits(max_event_bytes=size - 1)) == "oversized"
    assert refusal(found, Limits(max_event_bytes=size)) == "missing_field"


def test_the_number_of_attributes_is_bounded() -> None:
    assert refusal(event(**{f"e{number}": "" for number in range(60)})) == "too_many_fields"
