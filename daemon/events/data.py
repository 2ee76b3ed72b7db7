"""Rows to learn from: `mtl.data.v1`, the subject names the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from daemon.encodings import decode
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.types import Envelope, Limits, Machine, Payload


@dataclass(frozen=True, slots=True)
class Data:
    """Inputs with the labels of one task, of several tasks (no subject) or of none (unlabelled)."""

    envelope: Envelope
    payload: Payload

    @classmethod
    def parse(cls, envelope: Envelope, limits: Limits) -> Self:
        """Decode the payload by its content type."""
        if not envelope.data:
            raise BadEvent("missing_data", "a data event without data: send the rows")
        payload = decode(envelope.content_type, envelope.data, envelope.subject, limits)
        if envelope.rows not in (None, len(payload.x)):
            raise BadEvent(
                "rows_mismatch",
                f"mtlrows says {envelope.rows} and x has {len(payload.x)} rows: make them equal",
            )
        return cls(envelope, payload)

    def apply(self, machine: Machine) -> None:
        """Enter the rows."""
        machine.data(self.envelope, self.payload)
