"""Decodes `application/vnd.safetensors`: an 8-byte length, a JSON header, the tensors' bytes.

The arrays are read-only views of the event's own bytes; nothing is copied except where a tensor is
not aligned; where they lie is worked out once a header. The checks are stricter than the format's:
https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from daemon.encodings.columns import MAX_COLUMNS, MAX_RANK, payload
from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.encodings.columns import Column
    from daemon.types import Json, Limits, Payload

MAX_HEADER_BYTES = 64 * 1024  # 256 columns with long names need about 40 KiB
_MAX_BRACKETS = 3 * MAX_COLUMNS + 2  # of a legal header; bounds nesting before anything is parsed
_DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_KEYS = {"dtype", "shape", "data_offsets"}
_Place = tuple[
    str, "np.dtype[Any]", tuple[int, ...], int, int
]  # name, dtype, shape, bytes from, to


def decode(data: bytes, subject: str | None, limits: Limits) -> Payload:
    """The tensors of one event as a payload."""
    return payload(columns(data, limits.max_event_bytes), subject, limits)


def columns(data: bytes, max_bytes: int) -> dict[str, Column]:
    """All tensors by name; BadEvent unless they tile the bytes after the header exactly."""
    if len(data) > max_bytes:
        raise BadEvent(
            "oversized", f"{len(data)} bytes of tensors, at most {max_bytes}: split the event"
        )
    raw = _header(data)
    layout = _layout(raw)
    start = 8 + len(raw)
    for name, _, _, _, end in layout:
        if end > len(data) - start:
            raise BadEvent(
                "truncated",
                f"{shown(name)} ends at byte {end} of {len(data) - start}: send all of it",
            )
    _check_tiling([(begin, end) for *_, begin, end in layout], len(data) - start)
    return {name: _array(data, kind, shape, start + at) for name, kind, shape, at, _ in layout}


def _header(data: bytes) -> bytes:
    if len(data) < 8:
        raise BadEvent(
            "truncated", f"{len(data)} bytes of data: safetensors starts with 8 of length"
        )
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise BadEvent("header_too_large", f"header of {size} bytes, at most {MAX_HEADER_BYTES}")
    if 8 + size > len(data):
        raise BadEvent(
            "truncated", f"header of {size} bytes in {len(data)} bytes of data: send all of it"
        )
    return data[8 : 8 + size]


@lru_cache(maxsize=64)  # a producer's events mostly have the same header
def _layout(raw: bytes) -> tuple[_Place, ...]:
    """Every tensor that the header names."""
    if raw.count(b"{") + raw.count(b"[") > _MAX_BRACKETS:
        raise BadEvent("too_many_columns", f"header names too many tensors, at most {MAX_COLUMNS}")
    try:
        header = _HEADER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise BadEvent("bad_header", f"the header is not JSON: {shown(str(error))}") from error
    if not isinstance(header, dict):
        raise BadEvent("bad_header", "the header is JSON but not an object of tensors")
    specs = cast("Json", header)
    specs.pop("__metadata__", None)  # free text for tools, without meaning here
    found: list[_Place] = []
    for name, spec in specs.items():
        dtype, shape, (begin, end) = _spec(name, spec)
        found.append((name, dtype, tuple(shape), begin, end))
    return tuple(found)


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadEvent("duplicate_key", "a name appears twice in the header: send each tensor once")
    return found


def _refuse(literal: str) -> NoReturn:
    raise BadEvent("bad_header", f"{literal} in the header is not JSON")


_HEADER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def _spec(name: str, spec: Any) -> tuple[np.dtype[Any], list[int], list[int]]:
    if not isinstance(spec, dict) or spec.keys() != _KEYS:
        raise BadEvent("bad_header", f"{shown(name)} needs exactly dtype, shape and data_offsets")
    kind, sizes, places = itemgetter("dtype", "shape", "data_offsets")(cast("Json", spec))
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise BadEvent(
            "unknown_dtype", f"{shown(name)} is {shown(kind)}; allowed are {', '.join(_DTYPES)}"
        )
    shape, offsets = _sizes(name, "shape", sizes), _sizes(name, "data_offsets", places)
    if len(shape) > MAX_RANK:
        raise BadEvent(
            "wrong_rank", f"{shown(name)} has rank {len(shape)}, allowed are 1 to {MAX_RANK}"
        )
    if len(offsets) != 2 or math.prod(shape) * dtype.itemsize != offsets[1] - offsets[0]:
        raise BadEvent(
            "bad_offsets",
            f"{shown(name)}: offsets {shown(offsets)} do not hold shape {shown(shape)}",
        )
    return dtype, shape, offsets


def _sizes(name: str, what: str, found: Any) -> list[int]:
    sizes = cast("list[Any]", found) if isinstance(found, list) else [found]
    if isinstance(found, list) and all(type(size) is int and size >= 0 for size in sizes):
        return sizes
    raise BadEvent("bad_header", f"{shown(name)}: {what} {shown(sizes)} is not a list of sizes")


def _array(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> np.ndarray:
    count = math.prod(shape)
    if count == 0:
        raise BadEvent("empty", f"a tensor of shape {shown(list(shape))} holds nothing")
    array = np.frombuffer(data, dtype, count, offset).reshape(shape)
    if dtype.kind == "b" and array.view(np.uint8).max() > 1:
        raise BadEvent("bad_bool", "a BOOL tensor holds bytes other than 0 and 1")
    return array if array.flags.aligned else array.copy()


def _check_tiling(spans: list[tuple[int, int]], num_bytes: int) -> None:
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise BadEvent(
                "bad_offsets", f"a tensor starts at byte {begin}, the one before ends at {at}"
            )
        at = end
    if at != num_bytes:
        raise BadEvent(
            "bad_offsets", f"{num_bytes - at} bytes after the last tensor belong to none"
        )
