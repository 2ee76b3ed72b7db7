"""New settings of a running task: `mtl.task.update.v1`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from daemon.encodings.names import shown
from daemon.errors import BadEvent
from daemon.events.document import document, required_subject

if TYPE_CHECKING:
    from daemon.types import Envelope, Json, Limits, Machine

NUMBERS = ("share", "min_share", "loss_weight", "tolerance")
DECISIONS = ("balanced", "prior")
CHANGEABLE = (*NUMBERS, "decision")


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """The settings that change; all others stay."""

    envelope: Envelope
    task: str
    changes: Json

    @classmethod
    def parse(cls, envelope: Envelope, limits: Limits) -> Self:
        """At least one setting, each a finite number that is not negative, but `decision` a word."""
        task = required_subject(envelope)
        changes = document(envelope, limits, CHANGEABLE)
        if not changes:
            raise BadEvent("bad_update", f"nothing to change: send one of {', '.join(CHANGEABLE)}")
        return cls(envelope, task, {key: _checked(key, value) for key, value in changes.items()})

    def apply(self, machine: Machine) -> None:
        """Change the task."""
        machine.update_task(self.task, self.changes)


def _checked(key: str, value: Any) -> float | str:
    if key not in NUMBERS:
        if value not in DECISIONS:
            raise BadEvent(
                "bad_update", f"{key} is {shown(value)}: send one of {', '.join(DECISIONS)}"
            )
        return str(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= sys.float_info.max:
        raise BadEvent("bad_update", f"{key} is {shown(value)}: send a number of at least 0")
    return float(value)
