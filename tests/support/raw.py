"""Raw entries as a producer in any language would send them: fields of bytes, tensors byte by byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

from daemon.types import Entry

Fields = dict[bytes, bytes]
TENSORS = "application/vnd.safetensors"
REFERENCE = "application/vnd.mtl.ref+json"


def fields(kind: str, subject: str | None, data: bytes, **attributes: str | bytes | None) -> Fields:
    """An event's fields; an attribute given as None is left out."""
    found: Fields = {b"specversion": b"1.0", b"id": b"1", b"source": b"raw/1"}
    return replaced(found, {"type": kind, "subject": subject, "data": data, **attributes})


def tensor_event(subject: str | None, columns: dict[str, np.ndarray], **attributes: Any) -> Fields:
    """A data event of arrays."""
    return tensor_bytes(subject, save(columns), **attributes)


def tensor_bytes(subject: str | None, data: bytes, **attributes: Any) -> Fields:
    """A data event of bytes that claim to be safetensors."""
    return fields("mtl.data.v1", subject, data, **{"datacontenttype": TENSORS, **attributes})


def json_event(subject: str | None, document: Any, **attributes: Any) -> Fields:
    """A data event of JSON; bytes and str go out as they are."""
    data = document if isinstance(document, (str, bytes)) else json.dumps(document)
    attributes = {"datacontenttype": "application/json", **attributes}
    return fields("mtl.data.v1", subject, _bytes(data), **attributes)


def task_event(verb: str, subject: str | None, document: Any, **attributes: Any) -> Fields:
    """`mtl.task.<verb>.v1`."""
    data = document if isinstance(document, (str, bytes)) else json.dumps(document)
    return fields(f"mtl.task.{verb}.v1", subject, _bytes(data), **attributes)


def replaced(of: Fields, attributes: Mapping[str, str | bytes | None]) -> Fields:
    """The same fields with some replaced, or left out where None."""
    kept = {name: value for name, value in of.items() if name.decode() not in attributes}
    new = {name.encode(): _bytes(value) for name, value in attributes.items() if value is not None}
    return kept | new


def entry(of: Fields, id: str = "1-0") -> Entry:
    """The fields as the log returns them."""
    return Entry(id, of)


def headed(header: Any, body: bytes = b"") -> bytes:
    """Safetensors with any header, wrong ones too."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + body


def spec(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
