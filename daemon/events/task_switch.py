"""A boundary in the stream: `mtl.task.switch.v1`, to another task or to another phase of the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from daemon.encodings.names import shown
from daemon.errors import BadEvent
from daemon.events.document import document, required_subject

if TYPE_CHECKING:
    from daemon.types import Envelope, Limits, Machine

MAX_PHASE_CHARS = 128


@dataclass(frozen=True, slots=True)
class TaskSwitch:
    """The task in focus from here on, and what this stretch of the stream is called."""

    envelope: Envelope
    task: str
    phase: str | None

    @classmethod
    def parse(cls, envelope: Envelope, limits: Limits) -> Self:
        """`{"phase": "..."}`, `{}` or no data."""
        task = required_subject(envelope)
        phase = document(envelope, limits, ("phase",)).get("phase")
        if phase is not None and not _is_phase(phase):
            raise BadEvent(
                "bad_phase",
                f"phase is {shown(phase)}: send 1 to {MAX_PHASE_CHARS} printable characters",
            )
        return cls(envelope, task, phase)

    def apply(self, machine: Machine) -> None:
        """Switch."""
        machine.switch_task(self.task, self.phase)


def _is_phase(phase: object) -> bool:
    return isinstance(phase, str) and 1 <= len(phase) <= MAX_PHASE_CHARS and phase.isprintable()
