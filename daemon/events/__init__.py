"""What may stand in the log: one file per event type, one line in this table.

`parse` is stateless. It knows form, not meaning: whether a task exists is the engine's to say.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from daemon.encodings.names import shown
from daemon.errors import BadEvent
from daemon.events.envelope import envelope

if TYPE_CHECKING:
    from daemon.types import Entry, Envelope, Event, Limits

EVENTS = {
    "mtl.data.v1": "daemon.events.data:Data",
    "mtl.task.add.v1": "daemon.events.task_add:TaskAdd",
    "mtl.task.switch.v1": "daemon.events.task_switch:TaskSwitch",
    "mtl.task.update.v1": "daemon.events.task_update:TaskUpdate",
    "mtl.task.retire.v1": "daemon.events.task_retire:TaskRetire",
    "mtl.control.v1": "daemon.events.control:Control",
}


class Parser(Protocol):
    """What every line of the table names: a class that builds its event from an envelope."""

    def parse(self, envelope: Envelope, limits: Limits) -> Event: ...


def parse(entry: Entry, limits: Limits) -> Event:
    """The event that an entry of the log holds; raises nothing but BadEvent."""
    found = envelope(entry, limits)
    where = EVENTS.get(found.type)
    if where is None:
        raise BadEvent(
            "unknown_type", f"type is {shown(found.type)}; known are {', '.join(EVENTS)}"
        )
    return _load(where).parse(found, limits)


@cache
def _load(where: str) -> Parser:
    module, _, name = where.partition(":")
    return cast("Parser", vars(import_module(module))[name])
