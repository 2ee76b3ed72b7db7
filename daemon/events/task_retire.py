"""The end of a task: `mtl.task.retire.v1`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from daemon.events.document import document, required_subject

if TYPE_CHECKING:
    from daemon.types import Envelope, Limits, Machine


@dataclass(frozen=True, slots=True)
class TaskRetire:
    """The task whose head, replay rows and hold-outs are given up."""

    envelope: Envelope
    task: str

    @classmethod
    def parse(cls, envelope: Envelope, limits: Limits) -> Self:
        """Only the subject; data is absent or `{}`."""
        task = required_subject(envelope)
        document(envelope, limits, ())
        return cls(envelope, task)

    def apply(self, machine: Machine) -> None:
        """Retire the task."""
        machine.retire_task(self.task)
