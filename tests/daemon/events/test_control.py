"""Control events: the daemon's own decisions, and nobody else's."""

from __future__ import annotations

import pytest

from daemon.errors import BadEvent
from daemon.events import parse
from daemon.events.control import SOURCE, Control
from daemon.types import Limits
from tests.support.raw import entry, fields


def parsed(data: bytes, source: str = SOURCE) -> Control:
    """The control event with this document."""
    event = parse(entry(fields("mtl.control.v1", None, data, source=source)), Limits())
    assert isinstance(event, Control)
    return event


def test_a_decision_has_a_kind_and_what_belongs_to_it() -> None:
    event = parsed(b'{"kind": "flush", "after": 3}')
    assert (event.kind, event.detail) == ("flush", {"after": 3})


@pytest.mark.parametrize("source", ["mtld/1", "Mtld", "camera/7"])
def test_a_decision_of_another_source_is_refused(source: str) -> None:
    with pytest.raises(BadEvent) as caught:
        parsed(b'{"kind": "flush"}', source)
    assert caught.value.reason == "foreign_control"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"kind": 3}', b'{"kind": ""}', b'{"kind": "Flush"}', b'{"kind": "a b"}']
)
def test_a_kind_is_a_word(data: bytes) -> None:
    with pytest.raises(BadEvent) as caught:
        parsed(data)
    assert caught.value.reason == "bad_control"
