"""What task and control events share: a subject that must be there, and a small JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.encodings import json
from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.types import Envelope, Json, Limits

MAX_DOCUMENT_BYTES = 256 * 1024  # 1,000 declared classes of 256 bytes each fit


def required_subject(envelope: Envelope) -> str:
    """The task that the event is about."""
    if envelope.subject is None:
        raise BadEvent("missing_subject", f"{envelope.type} without a subject: name the task")
    return envelope.subject


def document(envelope: Envelope, limits: Limits, allowed: tuple[str, ...] | None = None) -> Json:
    """The JSON object in the event's data, {} where there is none; keys are checked where `allowed` says."""
    if envelope.content_type != "application/json":
        raise BadEvent(
            "unknown_content_type",
            f"datacontenttype of {envelope.type} is {shown(envelope.content_type)}: send application/json",
        )
    if len(envelope.data) > MAX_DOCUMENT_BYTES:
        raise BadEvent(
            "oversized", f"{len(envelope.data)} bytes of JSON, at most {MAX_DOCUMENT_BYTES}"
        )
    found = json.load_object(envelope.data, limits) if envelope.data else {}
    unknown = [key for key in found if allowed is not None and key not in allowed]
    if unknown:
        raise BadEvent(
            "unknown_key",
            f"key {shown(unknown[0])} in {envelope.type}: allowed are {', '.join(allowed or ())}",
        )
    return found
