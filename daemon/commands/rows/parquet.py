"""Rows of a .parquet file through pyarrow, which is an extra: columns x, y, mask, weight, or a table as in a csv."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.commands.rows.csv import check_label, table
from daemon.commands.rows.part import COLUMNS, Part, Reading, inputs, named
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read(path: Path, reading: Reading) -> Iterator[Part]:
    """Row group by row group, so many rows at a time."""
    if find_spec("pyarrow") is None:
        raise DaemonError("reading .parquet needs pyarrow: pip install 'mtld[parquet]'")
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    path.open("rb").close()  # says more of a missing file than the library does
    try:
        with parquet.ParquetFile(path) as file:
            total, read_rows = max(1, file.metadata.num_rows), 0
            ours = reading.label is None and "x" in file.schema_arrow.names
            if not ours:
                check_label(path, file.schema_arrow.names, reading.label)
            for batch in file.iter_batches(batch_size=reading.num_rows, use_threads=False):
                read_rows += len(batch)
                make = _named if ours else _table
                yield make(path, batch, reading, read_rows / total)
    except (arrow.ArrowException, ValueError) as error:
        raise DaemonError(f"{path} is not a parquet file that can be read: {error}") from None


def _named(path: Path, batch: Any, reading: Reading, done: float) -> Part:
    del reading
    names: list[str] = batch.schema.names
    strange = [name for name in names if name.partition(".")[0] not in COLUMNS]
    if strange:
        raise DaemonError(
            f"{path} has the columns {', '.join(names)}; name the labels with --label, or have x, y, mask, weight"
        )
    columns = {name: _column(path, name, batch.column(name)) for name in names}
    return named({**columns, "x": inputs(columns["x"])}, done)


def _table(path: Path, batch: Any, reading: Reading, done: float) -> Part:
    names: list[str] = batch.schema.names
    columns = [batch.column(name) for name in names]
    if reading.label is not None and columns[names.index(reading.label)].null_count:
        raise DaemonError(f"{path}: column {reading.label} has rows without a label; drop them")
    is_number = [_is_number(column.type) for column in columns]
    values = [
        _filled(column.to_pylist(), number)
        for column, number in zip(columns, is_number, strict=True)
    ]
    return table(names, values, is_number, reading.label, done)


def _column(path: Path, name: str, column: Any) -> Any:
    if column.null_count:
        raise DaemonError(f"{path}: column {name} has rows without a value; use mask, or drop them")
    if _is_number(column.type):
        return column.to_numpy(zero_copy_only=False)
    if not _is_list(column.type):
        return column.to_pylist()
    inner = _column(path, name, column.flatten())  # may be lists too; the type of the numbers stays
    lengths = set(column.value_lengths().to_pylist())
    if len(lengths) != 1:
        raise DaemonError(
            f"{path}: column {name} has lists of different lengths; rows have one shape"
        )
    return np.asarray(inner).reshape(len(column), lengths.pop(), *np.shape(inner)[1:])


def _is_list(kind: Any) -> bool:
    types = import_module("pyarrow.types")
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_number(kind: Any) -> bool:
    types = import_module("pyarrow.types")
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _filled(values: list[Any], number: bool) -> list[Any]:
    """A missing number is NaN, a missing text is empty, as in a csv."""
    return [(float("nan") if number else "") if value is None else value for value in values]
