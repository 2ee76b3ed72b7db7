"""Every event type: what is documented parses, what is malformed is refused by its reason, whatever the bytes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.encodings import ENCODINGS
from daemon.errors import BadEvent
from daemon.events import EVENTS, parse
from daemon.events.reasons import REASONS
from daemon.types import Limits
from tests.support import documented, malformed
from tests.support.malformed import Kind
from tests.support.raw import Fields, entry, fields, json_event, task_event, tensor_event

QUICK_S = 2.0  # far above what any entry of these tests needs, far below what an attack would want
FUZZ = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
COMMANDS = documented.commands()


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    """Small limits, so that what is too large is still small."""
    return Limits(1 << 20, 4096, 16, str(tmp_path), 1 << 18)


class Recorder:
    """A machine that remembers what an event did to it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []

    def data(self, envelope: Any, payload: Any) -> None:
        self.calls.append(("data", envelope.subject, len(payload.x)))

    def add_task(self, spec: dict[str, Any]) -> None:
        self.calls.append(("add", spec["name"], spec))

    def switch_task(self, task: str, phase: str | None) -> None:
        self.calls.append(("switch", task, phase))

    def update_task(self, task: str, changes: dict[str, Any]) -> None:
        self.calls.append(("update", task, changes))

    def retire_task(self, task: str) -> None:
        self.calls.append(("retire", task, None))

    def control(self, kind: str, detail: dict[str, Any]) -> None:
        self.calls.append(("control", kind, detail))


def good_events() -> dict[str, Fields]:
    """One well-formed event of every type."""
    control = fields("mtl.control.v1", None, b'{"kind": "flush", "at": 3}', source="mtld")
    return {
        "mtl.data.v1": malformed.good(1),
        "mtl.task.add.v1": task_event("add", "digits", {"modality": "image"}),
        "mtl.task.switch.v1": task_event("switch", "digits", {"phase": "evens"}),
        "mtl.task.update.v1": task_event("update", "digits", {"share": 2, "tolerance": 0.5}),
        "mtl.task.retire.v1": task_event("retire", "digits", b""),
        "mtl.control.v1": control,
    }


EFFECTS = {
    "mtl.data.v1": ("data", "digits", 2),
    "mtl.task.add.v1": ("add", "digits", {"name": "digits", "modality": "image"}),
    "mtl.task.switch.v1": ("switch", "digits", "evens"),
    "mtl.task.update.v1": ("update", "digits", {"share": 2.0, "tolerance": 0.5}),
    "mtl.task.retire.v1": ("retire", "digits", None),
    "mtl.control.v1": ("control", "flush", {"at": 3}),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_of_every_type_has_the_effect_it_says(kind: str, limits: Limits) -> None:
    machine = Recorder()
    parse(entry(good_events()[kind]), limits).apply(machine)
    assert machine.calls == [EFFECTS[kind]]


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_every_type_needs_the_four_attributes(kind: str, name: str, limits: Limits) -> None:
    found = good_events()[kind]
    del found[name.encode()]
    with pytest.raises(BadEvent) as caught:
        parse(entry(found), limits)
    assert caught.value.reason == "missing_field"


@pytest.mark.parametrize("kind", malformed.catalogue(), ids=lambda kind: kind.name)
def test_a_malformed_event_is_refused_by_its_reason(kind: Kind, limits: Limits) -> None:
    found, start = kind.make(limits), time.monotonic()
    if kind.level != "parse":  # well-formed in itself: the rows' task or the event's key refuses it
        parse(entry(found), limits)
    else:
        with pytest.raises(BadEvent) as caught:
            parse(entry(found), limits)
        assert caught.value.reason == kind.reason
        assert len(str(caught.value)) < 500, "a message is kept in the dead letter"
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()
    assert time.monotonic() - start < QUICK_S


def test_the_catalogue_is_broad_and_its_reasons_are_documented() -> None:
    kinds = malformed.catalogue()
    assert len(kinds) >= 45
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert {kind.reason for kind in kinds} - set(REASONS) == {"duplicate"}


def test_what_the_catalogue_calls_good_is_good(limits: Limits) -> None:
    for found in [*malformed.setup(), malformed.good(0), malformed.good(1)]:
        parse(entry(found), limits).apply(Recorder())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.line[:60])
def test_every_documented_command_is_an_event(command: documented.Command, tmp_path: Path) -> None:
    documented.store_example(tmp_path)
    found = documented.fields_of(command)
    machine = Recorder()
    parse(entry(found), Limits(reference_root=str(tmp_path))).apply(machine)
    assert len(machine.calls) == 1
    assert command.key == b"mtl:{default}:events"


def test_every_type_and_every_encoding_has_a_documented_command() -> None:
    found = [documented.fields_of(command) for command in COMMANDS]
    assert {one[b"type"].decode() for one in found} == set(EVENTS)
    given = {one[b"datacontenttype"].decode() for one in found if b"datacontenttype" in one}
    assert given == set(ENCODINGS)


def samples() -> list[Fields]:
    """Well-formed events to mutate."""
    image = tensor_event(
        "digits", {"x": malformed.X, "y": malformed.Y, "mask": np.array([True, False])}
    )
    several = tensor_event(None, {"x": malformed.X, "y.a": malformed.Y, "weight.a": np.ones(2)})
    words = json_event("intents", {"x": ["on", 'öff \\ "q" 😀'], "y": ["a", "b"], "mask": [1, 0]})
    table = json_event("price", {"x": [[1, None, "red"]], "y": {"price": [1.5]}, "dtype": {}})
    return [image, several, words, table, *good_events().values()]


@FUZZ
@given(st.data())
def test_changed_bytes_are_refused_or_parsed_and_nothing_else(data: st.DataObject) -> None:
    found = dict(data.draw(st.sampled_from(samples())))
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(found)))
        found[name] = _mutated(data, found[name])
    _survives(found, Limits())


@FUZZ
@given(st.dictionaries(st.sampled_from(sorted(samples()[0])), st.binary(max_size=200)))
def test_arbitrary_fields_are_refused_or_parsed(found: Fields) -> None:
    _survives({**samples()[0], **found}, Limits())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
_keys = st.sampled_from(
    ["x", "y", "mask", "weight", "dtype", "phase", "share", "classes", "encoder", "kind"]
)


@FUZZ
@given(st.sampled_from(sorted(EVENTS)), st.dictionaries(_keys, _json, max_size=5), st.booleans())
def test_arbitrary_json_is_refused_or_parsed(kind: str, document: Any, has_subject: bool) -> None:
    found = json_event("digits" if has_subject else None, document, type=kind, source="mtld")
    _survives(found, Limits())


def _mutated(data: st.DataObject, value: bytes) -> bytes:
    at = data.draw(st.integers(0, len(value)))
    new = data.draw(
        st.binary(max_size=6) | st.sampled_from([b"[", b'"', b"\\", b"9" * 400, b"\xff" * 8])
    )
    return value[:at] + new + value[at + data.draw(st.integers(0, 12)) :]


def _survives(found: Fields, limits: Limits) -> None:
    start, refusal = time.monotonic(), None
    try:
        parse(entry(found), limits).apply(Recorder())
    except BadEvent as error:
        refusal = error
    assert time.monotonic() - start < QUICK_S
    assert refusal is None or (refusal.reason in REASONS and str(refusal).isprintable())
