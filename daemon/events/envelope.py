"""The attributes that every event carries, named as in CloudEvents 1.0: presence, form and size.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md. Attributes that are not named
here (traceparent, dataschema, ...) are allowed, counted against the size limit and not looked at.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from daemon.encodings.names import shown, task_name
from daemon.errors import BadEvent
from daemon.types import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.types import Entry, Limits

SPECVERSION = b"1.0"
MAX_FIELDS = 64  # attributes of one entry
MAX_HOP = 3  # how often a dead letter may be sent again
MAX_BYTES = {  # of each attribute we keep: they go into dead letters and log lines
    b"id": 256,
    b"source": 512,
    b"type": 128,
    b"subject": 128,
    b"time": 64,
    b"datacontenttype": 128,
}
_REPEATED = frozenset({b"source", b"type", b"subject", b"datacontenttype"})  # from event to event
DEFAULT_CONTENT_TYPE = "application/json"  # as CloudEvents has it
_TIME = re.compile(  # RFC 3339
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
    r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_ROWS = re.compile(rb"0|[1-9][0-9]{0,8}")


def envelope(entry: Entry, limits: Limits) -> Envelope:
    """The checked attributes of one entry; the payload is not looked at."""
    fields = entry.fields
    _check_size(fields, limits)
    version = fields.get(b"specversion")
    if version != SPECVERSION:
        if version is None:
            raise BadEvent("missing_field", "no specversion: send 1.0")
        raise BadEvent(
            "unsupported_specversion", f"specversion {shown(version)}: only 1.0 is understood"
        )
    subject = _text(fields, b"subject")
    return Envelope(
        entry_id=entry.id,
        id=_required(fields, b"id"),
        source=_required(fields, b"source"),
        type=_required(fields, b"type"),
        subject=None if subject is None else _task(subject),
        time=_time(fields),
        content_type=_content_type(fields),
        data=fields.get(b"data", b""),
        hop=_hop(fields),
        rows=_rows(fields, limits),
    )


def claimed_rows(entry: Entry) -> int:
    """How many rows the producer says an entry has, for the accounting of entries that cannot be parsed."""
    value = entry.fields.get(b"mtlrows", b"0")
    return int(value) if _ROWS.fullmatch(value) else 0


def _check_size(fields: Mapping[bytes, bytes], limits: Limits) -> None:
    num_bytes = sum(map(len, fields)) + sum(map(len, fields.values()))
    if num_bytes > limits.max_event_bytes:
        raise BadEvent(
            "oversized", f"{num_bytes} bytes, at most {limits.max_event_bytes}: split the event"
        )
    if len(fields) > MAX_FIELDS:
        raise BadEvent("too_many_fields", f"{len(fields)} attributes, at most {MAX_FIELDS}")


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    return _repeated(name, value) if name in _REPEATED else _checked(name, value)


def _checked(name: bytes, value: bytes) -> str:
    if not 1 <= len(value) <= MAX_BYTES[name]:
        raise BadEvent(
            "bad_field_length",
            f"{name.decode()} has {len(value)} bytes, allowed are 1 to {MAX_BYTES[name]}",
        )
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise BadEvent("invalid_utf8", f"{name.decode()} is {shown(value)}: send UTF-8") from error
    if not text.isprintable():
        raise BadEvent(
            "control_characters", f"{name.decode()} is {shown(text)}: printable text only"
        )
    return text


_repeated = lru_cache(maxsize=1024)(_checked)  # what is refused is not kept
_task = lru_cache(maxsize=1024)(task_name)


def _required(fields: Mapping[bytes, bytes], name: bytes) -> str:
    text = _text(fields, name)
    if text is None:
        raise BadEvent(
            "missing_field", f"no {name.decode()}: every event needs specversion, id, source, type"
        )
    return text


def _time(fields: Mapping[bytes, bytes]) -> str | None:
    text = _text(fields, b"time")
    if text is not None and _TIME.fullmatch(text) is None:
        raise BadEvent("bad_time", f"time is {shown(text)}: send RFC 3339, as 2026-01-31T12:00:00Z")
    return text


def _content_type(fields: Mapping[bytes, bytes]) -> str:
    text = _text(fields, b"datacontenttype")
    if text is None:
        return DEFAULT_CONTENT_TYPE
    name, semicolon, parameter = text.partition(";")
    if semicolon and parameter.strip().lower() != "charset=utf-8":
        raise BadEvent(
            "unknown_content_type", f"datacontenttype {shown(text)}: charset=utf-8 or nothing"
        )
    return name.strip().lower()


def _hop(fields: Mapping[bytes, bytes]) -> int:
    value = fields.get(b"mtlhop", b"0")
    if value not in (b"0", b"1", b"2", b"3"):
        raise BadEvent(
            "too_many_hops",
            f"mtlhop is {shown(value)}: a dead letter is sent again at most {MAX_HOP} times",
        )
    return int(value)


def _rows(fields: Mapping[bytes, bytes], limits: Limits) -> int | None:
    value = fields.get(b"mtlrows")
    if value is None:
        return None
    if _ROWS.fullmatch(value) is None or int(value) > limits.max_rows:
        raise BadEvent(
            "bad_mtlrows", f"mtlrows is {shown(value)}: a row count of at most {limits.max_rows}"
        )
    return int(value)
