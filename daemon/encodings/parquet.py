"""Reads the columns of a .parquet file through pyarrow, which is an extra: `pip install mtld[parquet]`.

A column is numbers, strings, or lists of numbers of one length; a null is not a value here. Extension types are
refused. https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.encodings.columns import MAX_COLUMNS
from daemon.encodings.lists import column
from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.encodings.columns import Column

_NUMBERS = {
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "halffloat",
    "float",
    "double",
}
_NO_PAGES_BYTES = 1 << 40  # longer than any file
_STRINGS = {"string", "large_string"}


def columns(data: bytes, max_bytes: int) -> dict[str, Column]:
    """All columns by name; `max_bytes` bounds what the file says it unpacks to, before it is unpacked."""
    if find_spec("pyarrow") is None:
        raise BadEvent(
            "parquet_unavailable", "pyarrow is not installed here: pip install 'mtld[parquet]'"
        )
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(arrow.BufferReader(data))
        _check_chunks(file.metadata)
        _check_size(file.metadata, max_bytes)
        _check_names(file.schema_arrow)
        table = file.read(use_threads=False)
        return {
            name: _column(name, table.column(name).combine_chunks(), max_bytes)
            for name in table.column_names
        }
    except (arrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise BadEvent(
            "bad_parquet", f"not a .parquet that can be read: {shown(str(error))}"
        ) from error


class _NoPages:
    """A file of zeros that remembers whether it was read: where pages would be, if it came to that."""

    closed = False

    def __init__(self) -> None:
        self.asked = False

    def read(self, size: int = -1) -> bytes:
        self.asked = True
        return bytes(max(size, 0))

    def seek(self, offset: int, whence: int = 0) -> int:
        return _NO_PAGES_BYTES if whence else offset

    def tell(self) -> int:
        return _NO_PAGES_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""


def _check_chunks(metadata: Any) -> None:
    """Refuse column chunks that pyarrow's accessor would end the process over: an exception leaves it that may throw none.

    Its reader looks at the same, before it reads a page, and raises. So let it begin on every chunk.
    """
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    for index in range(metadata.num_row_groups):
        if metadata.row_group(index).num_columns != metadata.num_columns:
            raise ValueError(f"row group {index} has other columns than the schema")
        for number in range(metadata.num_columns):
            pages = _NoPages()
            file = parquet.ParquetFile(arrow.PythonFile(pages, "r"), metadata=metadata, pre_buffer=False)  # fmt: skip
            path = metadata.schema.column(number).path
            try:
                next(file.iter_batches(1, row_groups=[index], columns=[path], use_threads=False), None)  # fmt: skip
            except (arrow.ArrowException, OSError):
                if not pages.asked:
                    raise


def _check_size(metadata: Any, max_bytes: int) -> None:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    values = sum(chunk.num_values for chunk in chunks)  # repeats pack to almost nothing
    if max(unpacked, values) > max_bytes:
        raise BadEvent(
            "reference_too_large",
            f"unpacks to {max(unpacked, values)} bytes or more, at most {max_bytes}",
        )


def _check_names(schema: Any) -> None:
    if len(schema.names) > MAX_COLUMNS:
        raise BadEvent("too_many_columns", f"{len(schema.names)} columns, at most {MAX_COLUMNS}")
    if len(set(schema.names)) != len(schema.names):
        raise BadEvent(
            "duplicate_key", "the file holds one column name twice: send each column once"
        )


def _column(name: str, found: Any, max_bytes: int) -> Column:
    if found.null_count:
        raise BadEvent(
            "null_value", f"{shown(name)} has {found.null_count} nulls: use mask for missing labels"
        )
    kind = str(found.type)
    if kind in _STRINGS:
        return column(name, found.to_pylist())
    if kind in _NUMBERS:
        return found.to_numpy(zero_copy_only=False)
    if kind.startswith(("list<", "large_list<", "fixed_size_list<")):
        return _matrix(name, found, max_bytes)
    raise BadEvent(
        "unknown_dtype",
        f"{shown(name)} is {shown(kind)}: allowed are numbers, strings, lists of numbers",
    )


def _matrix(name: str, found: Any, max_bytes: int) -> np.ndarray:
    """Lists of one length, however deep, as one array [rows, ...]."""
    if len(found) == 0:
        raise BadEvent("empty", f"{shown(name)} holds nothing: an event carries at least one row")
    widths = np.diff(np.asarray(found.value_lengths()), prepend=len(found[0]))
    if widths.any():
        raise BadEvent(
            "ragged_rows", f"{shown(name)} has lists of different lengths: one file, one shape"
        )
    inner = _column(name, found.flatten(), max_bytes)
    if isinstance(inner, list) or inner.dtype.kind == "O":
        raise BadEvent(
            "unknown_dtype", f"{shown(name)} has lists of strings: allowed are lists of numbers"
        )
    return inner.reshape(len(found), -1, *inner.shape[1:])
