"""The payload of a data event as checked rows of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.types import Envelope, Payload
    from mtl_engine.engine import Engine
    from mtl_engine.types import Rows


def prepared(engine: Engine, envelope: Envelope, payload: Payload) -> Rows:
    """Rows for the task of the event, or for those that its labels name; BadRows changes nothing."""
    labels = payload.labels
    if envelope.subject is not None:
        own = labels.get(envelope.subject)
        if own is None:
            return engine.prepare(envelope.subject, payload.x)
        return engine.prepare(envelope.subject, payload.x, own.y, own.mask, own.weight)
    masks = {task: label.mask for task, label in labels.items() if label.mask is not None}
    weights = {task: label.weight for task, label in labels.items() if label.weight is not None}
    targets = {task: label.y for task, label in labels.items()}
    return engine.prepare(None, payload.x, targets, masks or None, weights or None)
