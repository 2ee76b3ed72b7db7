"""A decision of the daemon itself, read back in its place in the log: `mtl.control.v1`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from daemon import finite
from daemon.encodings.names import shown
from daemon.errors import BadEvent
from daemon.events.document import document
from daemon.identity import control_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.types import Envelope, Json, Limits, Machine

SOURCE = "mtld"  # the daemon's own source; producers' are "<name>/<uuid>"
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Control:
    """What was decided (`flush`, ...) and what belongs to it."""

    envelope: Envelope
    kind: str
    detail: Json

    @classmethod
    def parse(cls, envelope: Envelope, limits: Limits) -> Self:
        """`{"kind": "flush", ...}` from the daemon; from anybody else it is refused.

        The source is a claim, not a proof: who may XADD may write it. It keeps mistakes out, not attackers.
        """
        if envelope.source != SOURCE:
            raise BadEvent(
                "foreign_control", f"source is {shown(envelope.source)}: only the daemon decides"
            )
        detail = document(envelope, limits)
        kind = detail.pop("kind", None)
        if not isinstance(kind, str) or _KIND.fullmatch(kind) is None:
            raise BadEvent(
                "bad_control", f"kind is {shown(kind)}: send a snake_case word, as flush"
            )
        return cls(envelope, kind, detail)

    def apply(self, machine: Machine) -> None:
        """Carry the decision out."""
        machine.control(self.kind, self.detail)


def decision(kind: str, epoch: int, watermark: str, detail: Mapping[str, str]) -> dict[str, str]:
    """A decision of ours as an event; taken again at the same place it is the same event."""
    return {
        "specversion": "1.0",
        "id": control_id(epoch, watermark, "/".join([kind, *detail.values()])),
        "source": SOURCE,
        "type": "mtl.control.v1",
        "datacontenttype": "application/json",
        "data": finite.dumps({"kind": kind, **detail}, separators=(",", ":")),
    }
