"""Decodes `application/json`: `{"x": [...], "y": [...]}`, numbers in nested lists or raw strings for text.

Size, depth and number of values are bounded by looking at the bytes, before a parser sees them. What JSON
leaves open is closed: no NaN, no key twice, no numbers beyond 64 bits, no lone surrogates, UTF-8 only.
https://www.rfc-editor.org/rfc/rfc8259
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from daemon.encodings.columns import check_rows, payload
from daemon.encodings.lists import DTYPES, column
from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.types import Json, Limits, Payload

MAX_VALUES = 4 * 1024 * 1024  # numbers and strings of one event: 128 MiB of Python objects at worst
MAX_LISTS_PER_ROW = 8  # of the row limit: lists are what costs memory, about 90 bytes for 3 of JSON
KEYS = ("x", "y", "mask", "weight")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_CHUNK_BYTES = 64 * 1024
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1


def decode(data: bytes, subject: str | None, limits: Limits) -> Payload:
    """The lists of one event as a payload."""
    fields = load_object(data, limits)
    dtypes = _dtypes(fields.pop("dtype", {}))
    lists = _flat(fields)
    if not dtypes.keys() <= lists.keys():
        raise BadEvent(
            "bad_dtype", f"dtype names {shown(list(dtypes))}, found are {shown(list(lists))}"
        )
    for value in lists.values():
        if isinstance(value, list):
            check_rows(len(cast("list[Any]", value)), limits)  # before every cell is looked at
    columns = {name: column(name, value, dtypes.get(name)) for name, value in lists.items()}
    return payload(columns, subject, limits)


def load_object(data: bytes, limits: Limits) -> Json:
    """The object that a JSON text holds, or BadEvent."""
    if len(data) > limits.max_event_bytes:
        raise BadEvent(
            "oversized",
            f"{len(data)} bytes of JSON, at most {limits.max_event_bytes}: split the event",
        )
    _check_structure(data, limits)
    try:
        found = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise BadEvent(
            "invalid_utf8", f"the JSON is not UTF-8 at byte {error.start}: send UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise BadEvent(
            "bad_json", f"not JSON: {shown(error.msg)} at character {error.pos}"
        ) from error
    except ValueError as error:  # int() refuses thousands of digits
        raise BadEvent(
            "number_too_large", "an integer of thousands of digits: 64 bits are enough"
        ) from error
    if not isinstance(found, dict):
        raise BadEvent("not_an_object", f"data is a JSON {type(found).__name__}: send an object")
    if _SURROGATE.search(data):
        _check_surrogates(found)
    return cast("Json", found)


def _check_structure(data: bytes, limits: Limits) -> None:
    """Depth and number of values from the bytes alone; text inside strings does not count."""
    if data.count(b"[") + data.count(b"{") <= limits.max_depth and data.count(b",") < MAX_VALUES:
        return
    depth, num_lists, num_commas = _structure(data)
    if depth > limits.max_depth:
        raise BadEvent("too_deep", f"lists nested more than {limits.max_depth} deep")
    if num_commas >= MAX_VALUES:
        raise BadEvent(
            "too_many_values", f"more than {MAX_VALUES} values: split the event, or send arrays"
        )
    if num_lists > MAX_LISTS_PER_ROW * limits.max_rows:
        raise BadEvent(
            "too_many_values",
            f"more than {MAX_LISTS_PER_ROW * limits.max_rows} lists: split the event",
        )


def _structure(data: bytes) -> tuple[int, int, int]:
    """The deepest nesting, the number of lists and objects, the number of commas; a chunk at a time.

    Exact up to the first character that is not JSON, and there the parser stops.
    """
    if b"\\" in data:  # without escapes every quote left begins or ends a string
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth = deepest = num_lists = num_commas = quotes = 0
    for start in range(0, len(data), _CHUNK_BYTES):
        chunk = np.frombuffer(data, np.uint8, min(_CHUNK_BYTES, len(data) - start), start)
        seen = quotes + np.cumsum(chunk == ord('"'))
        bare = chunk[seen % 2 == 0]
        step = _STEP[bare]
        level = depth + np.cumsum(step, dtype=np.int64)
        deepest = max(deepest, int(level.max(initial=0)))
        depth = int(level[-1]) if len(level) else depth
        num_lists += int((step > 0).sum())
        num_commas += int((bare == ord(",")).sum())
        quotes = int(seen[-1])
    return deepest, num_lists, num_commas


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadEvent(
            "duplicate_key", "an object has one key twice: which of the two is meant is a guess"
        )
    return found


def _refuse(literal: str) -> NoReturn:
    raise BadEvent("nonfinite_literal", f"{literal} is not JSON: leave the row out, or use mask")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def _check_surrogates(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadEvent(
            "invalid_utf8", "a \\u escape leaves half a character: send pairs, or UTF-8"
        ) from error


def _flat(fields: Json) -> dict[str, Any]:
    """`{"y": {"season": [...]}}` to `{"y.season": [...]}`."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if key not in KEYS:
            raise BadEvent("unknown_column", f"{shown(key)}: allowed are {', '.join(KEYS)}, dtype")
        if key != "x" and isinstance(value, dict):
            by_task = cast("Json", value)
            flat |= {f"{key}.{task}": own for task, own in by_task.items()}
        else:
            flat[key] = value
    return flat


def _dtypes(found: Any) -> dict[str, str]:
    """`{"x": "uint8"}`: JSON has one kind of number, so a producer that needs a certain one says which."""
    if not isinstance(found, dict):
        raise BadEvent("bad_dtype", f'dtype is {shown(found)}: send an object, as {{"x": "uint8"}}')
    dtypes = cast("Json", found)
    for name, dtype in dtypes.items():
        if dtype not in DTYPES:
            raise BadEvent(
                "bad_dtype", f"dtype of {shown(name)} is {shown(dtype)}: one of {', '.join(DTYPES)}"
            )
    return dtypes
