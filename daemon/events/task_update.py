"""New settings of a running task: `mtl.task.update.v1`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from daemon.encodings.names import shown
from daemon.errors import BadEvent
from daemon.events.document import document, required_subject

if TYPE_CHECKING:
    from daemon.types import Envelope, Json, Limits, Machine

CHANGEABLE = ("share", "min_share", "loss_weight", "tolerance")


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """The settings that change; all others stay."""

    envelope: Envelope
    task: str
    changes: Json

    @classmethod
    def parse(cls, envelope: Envelope, limits: Limits) -> Self:
        """At least one setting, each a finite number that is not negative."""
        task = required_subject(envelope)
        changes = document(envelope, limits, CHANGEABLE)
        if not changes:
            raise BadEvent("bad_update", f"nothing to change: send one of {', '.join(CHANGEABLE)}")
        for key, value in changes.items():
            if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:
                raise BadEvent(
                    "bad_update", f"{key} is {shown(value)}: send a number of at least 0"
                )
        return cls(envelope, task, {key: float(value) for key, value in changes.items()})

    def apply(self, machine: Machine) -> None:
        """Change the task."""
        machine.update_task(self.task, self.changes)
