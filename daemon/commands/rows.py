"""Rows out of files, for `mtld push`: jsonl, csv, npz without pickle, safetensors; in parts, so that size is no matter.

What is wrong with a file is said with its line; nothing is guessed from one row that the next one could contradict.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast
from zipfile import BadZipFile

from daemon.errors import ConfigError, DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np

    from daemon.types import Json

COLUMNS = ("x", "y", "mask", "weight")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one event, as `Producer.push` takes them."""

    x: Any
    y: Any = None
    mask: Any = None
    weight: Any = None

    def __len__(self) -> int:
        return len(self.x)


def read(path: Path, num_rows: int, label: str | None) -> Iterator[Part]:
    """The rows of a file in file order, at most `num_rows` at a time; `label` names a csv's label column."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in READERS:
        raise ConfigError(
            f"{path} ends in {path.suffix!r}; allowed are {', '.join(f'.{name}' for name in READERS)}"
        )
    if label is not None and kind != "csv":
        raise ConfigError(
            f"--label names a column of a csv; {path.name} says itself what its labels are"
        )
    try:
        yield from READERS[kind](path, num_rows, label)
    except (OSError, UnicodeDecodeError) as error:
        raise DaemonError(f"{path} cannot be read: {error}") from None


def _jsonl(path: Path, num_rows: int, label: str | None) -> Iterator[Part]:
    """One object a line; neighbours with the same columns share an event."""
    del label
    with path.open(encoding="utf-8") as file:
        waiting: list[Json] = []
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = _row(line, f"{path}:{number}")
            if waiting and (len(waiting) == num_rows or _shape(row) != _shape(waiting[0])):
                yield _part(waiting)
                waiting = []
            waiting.append(row)
        if waiting:
            yield _part(waiting)


def _row(line: str, place: str) -> Json:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DaemonError(
            f'{place}: not a JSON object; write {{"x": ..., "y": ...}} or {{"text": ..., "label": ...}}'
        )
    given = cast("Json", found)
    row = {{"text": "x", "label": "y"}.get(key, key): value for key, value in given.items()}
    extra = sorted(set(row) - set(COLUMNS))
    if "x" not in row or extra or len(row) != len(given):
        raise DaemonError(
            f"{place}: columns {', '.join(given)}; allowed are x or text, y or label, mask, weight"
        )
    return row


def _shape(row: Json) -> list[tuple[str, tuple[str, ...]]]:
    """Which columns a row has, and for which tasks: only rows alike go into one event."""
    return sorted(
        (key, tuple(cast("Json", value)) if isinstance(value, dict) else ())
        for key, value in row.items()
    )


def _part(rows: list[Json]) -> Part:
    columns = {name: _gathered([row[name] for row in rows]) for name in rows[0]}
    return Part(**{**columns, "x": _inputs(columns["x"])})


def _inputs(values: list[Any]) -> Any:
    """Whole numbers as the engine keeps them: pictures of 0 to 255 as bytes, others as float32; the rest as it is."""
    import numpy

    try:
        found = numpy.asarray(values)
    except ValueError:  # rows of different shapes: the producer refuses them, and says why
        return values
    if found.dtype.kind != "i":
        return values
    is_picture = found.ndim > 2 and found.min() >= 0 and found.max() <= 255
    return found.astype(numpy.uint8 if is_picture else numpy.float32)


def _gathered(values: list[Any]) -> Any:
    """One list a column, or one a task where the rows name tasks."""
    if not isinstance(values[0], dict):
        return values
    return {task: [value[task] for value in values] for task in cast("Json", values[0])}


def _csv(path: Path, num_rows: int, label: str | None) -> Iterator[Part]:
    """Two passes: the first finds for each column the narrowest of int, float and text that fits all its values."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, list[str]())
        if label is not None and label not in header:
            raise ConfigError(
                f"--label {label!r} is no column of {path}; it has {', '.join(header)}"
            )
        if not header or header == [label]:
            raise DaemonError(f"{path} has no input column; its first line must name the columns")
        kinds = [0] * len(header)
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise DaemonError(
                    f"{path}:{number}: {len(row)} fields; the first line names {len(header)}"
                )
            kinds = [max(kind, _kind(value)) for kind, value in zip(kinds, row, strict=True)]
        file.seek(0)
        rows = csv.reader(file)
        next(rows)
        while chunk := list(islice(rows, num_rows)):
            columns = [[_KINDS[kind](row[i]) for row in chunk] for i, kind in enumerate(kinds)]
            yield _table(header, columns, kinds, label)


def _kind(value: str) -> int:
    if not value.strip():
        return 1  # a missing number; with a text in the same column an empty text
    for kind, parse in enumerate((int, float)):
        try:
            parse(value)
        except ValueError:
            continue
        return kind
    return 2


def _number(value: str) -> float:
    return float(value) if value.strip() else float("nan")


_KINDS: tuple[Callable[[str], int | float | str], ...] = (int, _number, str)


def _table(
    header: list[str], columns: list[list[Any]], kinds: list[int], label: str | None
) -> Part:
    y = columns[header.index(label)] if label is not None else None
    inputs = [column for name, column in zip(header, columns, strict=True) if name != label]
    numeric = all(kind < 2 for name, kind in zip(header, kinds, strict=True) if name != label)
    if len(inputs) == 1 and not numeric:
        return Part(inputs[0], y)  # one column of text: raw strings
    rows = [list(row) for row in zip(*inputs, strict=True)]
    return Part([[float(value) for value in row] for row in rows] if numeric else rows, y)


def _npz(path: Path, num_rows: int, label: str | None) -> Iterator[Part]:
    del label
    import numpy

    try:
        with path.open("rb") as file, numpy.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except BadZipFile as error:
        raise DaemonError(f"{path} is not a whole npz file: {error}") from None
    except ValueError as error:
        raise DaemonError(
            f"{path}: {error}; arrays of objects are pickles, which are never read"
        ) from None
    yield from _arrays(path, arrays, num_rows)


def _safetensors(path: Path, num_rows: int, label: str | None) -> Iterator[Part]:
    del label
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(path.read_bytes())
    except SafetensorError as error:
        raise DaemonError(f"{path} is not a safetensors file: {error}") from None
    yield from _arrays(path, arrays, num_rows)


def _arrays(path: Path, arrays: dict[str, np.ndarray], num_rows: int) -> Iterator[Part]:
    """Arrays by name: x, y, mask, weight, or y.<task> and so on where rows serve several tasks."""
    strange = sorted(name for name in arrays if name.partition(".")[0] not in COLUMNS)
    if "x" not in arrays or strange:
        raise DaemonError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; allowed are x, y, mask, weight, y.<task>"
        )
    total = len(arrays["x"])
    uneven = sorted(
        name for name, array in arrays.items() if array.ndim == 0 or len(array) != total
    )
    if uneven:
        raise DaemonError(f"{path}: {uneven[0]} does not have the {total} rows of x")
    for start in range(0, total, num_rows):
        columns: Json = {}
        for name, array in arrays.items():
            field, _, task = name.partition(".")
            rows = array[start : start + num_rows]
            if task:
                columns.setdefault(field, {})[task] = rows
            else:
                columns[field] = rows
        yield Part(**columns)


READERS: dict[str, Callable[[Path, int, str | None], Iterator[Part]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "npz": _npz,
    "safetensors": _safetensors,
}
