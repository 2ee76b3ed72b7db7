"""Checks nested lists, as JSON has them: one shape, one kind of value, numbers that fit a dtype.

Numbers stay lists, because JSON has one kind of number and the task knows its dtype, unless the event names
one. Whatever holds
strings becomes an array of objects: numpy would pad a list of strings to the longest one, which 65,536 rows
beside one long text would turn into terabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daemon.encodings.columns import MAX_RANK
from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.encodings.columns import Column

DTYPES = ("uint8", "int64", "float32")  # what an event may name
MAX_LABEL_BYTES = 256
_LARGEST = float(np.finfo(np.float32).max)
_NUMBERS: set[type] = {int, float}
_VALUES: set[type] = {int, float, bool, str, type(None)}


def column(name: str, value: Any, dtype: str | None = None) -> Column:
    """One column: x and y as they are or as an array of `dtype`, a mask as bool, weights as float32."""
    if not isinstance(value, list):
        raise BadEvent(
            "not_a_list", f"{shown(name)} is a {type(value).__name__}: send a list, one item a row"
        )
    rows = cast("list[Any]", value)
    cells, shape = _cells(name, rows)
    kinds = set(map(type, cells))
    if kinds & _NUMBERS:
        _check_sizes(name, cells, kinds)
    field = name.partition(".")[0]
    if field == "mask":
        return _mask(name, cells, kinds).reshape(shape)
    if field == "weight":
        return _weights(name, cells, kinds).reshape(shape)
    if dtype is not None:
        return _array(name, cells, kinds, dtype).reshape(shape)
    return _values(name, rows, kinds, len(shape))


def _values(name: str, rows: list[Any], kinds: set[type], rank: int) -> Column:
    if kinds <= _NUMBERS:
        return rows
    if list in kinds:
        raise BadEvent(
            "ragged_rows", f"{shown(name)} has lists beside values: one event, one shape"
        )
    if not kinds <= _VALUES:
        found = ", ".join(sorted(kind.__name__ for kind in kinds - _VALUES))
        raise BadEvent(
            "mixed_values", f"{shown(name)} has a {found}: numbers, strings, booleans, null"
        )
    return _inputs(name, rows, rank) if name == "x" else _labels(name, rows, kinds, rank)


def _cells(name: str, rows: list[Any]) -> tuple[list[Any], list[int]]:
    """All innermost values in one list, and the shape."""
    shape = [len(rows)]
    while rows and isinstance(rows[0], list):
        width = len(cast("list[Any]", rows[0]))
        if len(shape) == MAX_RANK:
            raise BadEvent("wrong_rank", f"{shown(name)} has lists more than {MAX_RANK} deep")
        if any(type(row) is not list or len(row) != width for row in rows):
            raise BadEvent(
                "ragged_rows", f"{shown(name)} has rows of different lengths: one event, one shape"
            )
        shape.append(width)
        rows = [cell for row in rows for cell in row]
    if not rows:
        raise BadEvent("empty", f"{shown(name)} holds nothing: an event carries at least one row")
    return rows, shape


def _check_sizes(name: str, cells: list[Any], kinds: set[type]) -> None:
    numbers = cells if kinds <= _NUMBERS else [cell for cell in cells if type(cell) in _NUMBERS]
    for extreme in (min(numbers), max(numbers)):
        is_whole = type(extreme) is int
        if abs(extreme) > (2**63 - 1 if is_whole else _LARGEST):
            allowed = "64 bits with sign" if is_whole else "float32, up to 3.4e38"
            raise BadEvent(
                "number_too_large", f"{shown(name)} has {shown(extreme)}: allowed is {allowed}"
            )


def _mask(name: str, cells: list[Any], kinds: set[type]) -> np.ndarray:
    if not kinds <= {int, bool} or not set(cells) <= {0, 1}:
        raise BadEvent("wrong_mask", f"{shown(name)} has values other than 0, 1, true and false")
    return np.array(cells, np.bool_)


def _weights(name: str, cells: list[Any], kinds: set[type]) -> np.ndarray:
    if not kinds <= _NUMBERS:
        raise BadEvent(
            "bad_weight", f"{shown(name)} has more than numbers: send numbers of at least 0"
        )
    return np.array(cells, np.float32)


def _array(name: str, cells: list[Any], kinds: set[type], dtype: str) -> np.ndarray:
    if dtype == "float32":
        if not kinds <= {int, float, type(None)}:
            raise BadEvent(
                "wrong_dtype", f"{shown(name)} is to be float32 and has more than numbers"
            )
        return np.array(cells, np.float32)  # null becomes NaN
    if kinds != {int}:
        raise BadEvent("wrong_dtype", f"{shown(name)} is to be {dtype} and has more than integers")
    allowed = np.iinfo(dtype)
    if min(cells) < allowed.min or max(cells) > allowed.max:
        raise BadEvent(
            "number_too_large", f"{shown(name)}: {dtype} is {allowed.min} to {allowed.max}"
        )
    return np.array(cells, dtype)


def _labels(name: str, rows: list[Any], kinds: set[type], rank: int) -> list[Any]:
    if str not in kinds:
        return rows
    if rank > 1:
        raise BadEvent("wrong_rank", f"{shown(name)} has lists of strings: one string a row")
    if not kinds <= {str, type(None)}:
        raise BadEvent(
            "mixed_label_types", f"{shown(name)} has strings and numbers: one or the other"
        )
    longest = max(len(label.encode()) for label in rows if label is not None)
    if longest > MAX_LABEL_BYTES:
        raise BadEvent(
            "label_too_long", f"{shown(name)}: {longest} bytes, at most {MAX_LABEL_BYTES}"
        )
    return rows


def _inputs(name: str, rows: list[Any], rank: int) -> np.ndarray:
    """Texts, or rows of a table that hold categories and missing values beside numbers."""
    if rank > 2:
        raise BadEvent("mixed_values", f"{shown(name)} of rank {rank} has more than numbers")
    return np.array(rows, dtype=object)
