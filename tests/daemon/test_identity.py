"""Who an event is: what makes two entries the same event, one id with two payloads, or strangers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.identity import (
    KEY_BYTES,
    LAST_POSSIBLE_ID,
    NAME_BYTES,
    control_id,
    event_key,
    id_tuple,
    text_fields,
)
from daemon.types import Entry
from tests.support.core import entry, fields

DATA = fields("mtl.data.v1", "a", id="7", data={"x": [1]})


def _key(**changes: str) -> bytes:
    return event_key(entry(DATA | changes))


def test_the_same_event_has_the_same_key_wherever_it_stands_in_the_log() -> None:
    assert event_key(entry(DATA, "1-0")) == event_key(entry(DATA, "99-3"))
    assert len(_key()) == KEY_BYTES


def test_another_id_source_or_hop_is_another_event() -> None:
    names = {_key()[:NAME_BYTES], _key(id="8")[:NAME_BYTES], _key(source="s")[:NAME_BYTES]}
    assert len(names | {_key(mtlhop="1")[:NAME_BYTES]}) == 4


def test_no_hop_and_hop_zero_are_the_same() -> None:
    assert _key(mtlhop="0") == _key()


def test_what_an_event_says_is_in_the_digest_and_not_in_the_name() -> None:
    for field in ("type", "subject", "datacontenttype", "data"):
        changed = _key(**{field: "other"})
        assert changed[:NAME_BYTES] == _key()[:NAME_BYTES]
        assert changed[NAME_BYTES:] != _key()[NAME_BYTES:], field


def test_attributes_that_say_nothing_do_not_count() -> None:
    assert _key(time="2026-01-31T12:00:00Z", sequence="4", traceparent="x") == _key()


def test_an_entry_without_a_name_is_named_by_its_place() -> None:
    anonymous = {name: value for name, value in DATA.items() if name != "id"}
    assert event_key(entry(anonymous, "1-0")) == event_key(entry(anonymous, "1-0"))
    assert event_key(entry(anonymous, "1-0")) != event_key(entry(anonymous, "2-0"))


@settings(max_examples=50, deadline=None)
@given(st.text("ab", max_size=4), st.text("ab", max_size=4), st.integers(0, 4))
def test_bytes_moved_between_source_and_id_make_another_event(one: str, two: str, cut: int) -> None:
    joined = one + two
    moved = (joined[:cut], joined[cut:])
    same = moved == (one, two)
    assert (_key(source=one, id=two) == _key(source=moved[0], id=moved[1])) is same


def test_a_decision_is_one_event_at_one_place_and_another_at_the_next() -> None:
    assert control_id(1, "5-0", "flush") == control_id(1, "5-0", "flush")
    others = {
        control_id(2, "5-0", "flush"),
        control_id(1, "6-0", "flush"),
        control_id(1, "5-0", "x"),
    }
    assert len(others | {control_id(1, "5-0", "flush")}) == 4


def test_stream_ids_order_as_numbers_and_not_as_text() -> None:
    assert id_tuple("9-0") < id_tuple("10-0") < id_tuple("10-2") < id_tuple("10-11")
    assert id_tuple("5") == (5, 0)
    assert id_tuple(LAST_POSSIBLE_ID) == (2**64 - 1, 2**64 - 1)


def test_readable_fields_leave_the_payload_out_and_survive_any_bytes() -> None:
    told = text_fields(Entry("1-0", {b"id": b"\xff1", b"data": b"\x00" * 9}).fields)
    assert told == {"id": "\ufffd1"}
