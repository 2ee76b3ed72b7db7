"""Rows of a .csv file: the first line names the columns, one of them may hold the labels, the others are the inputs."""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING, Any

from daemon.commands.rows.part import Part, Reading
from daemon.commands.rows.text import lines
from daemon.errors import ConfigError, DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from daemon.commands.rows.text import Lines


def read(path: Path, reading: Reading) -> Iterator[Part]:
    """Two passes: the first finds for each column the narrowest of int, float and text that fits all its values."""
    with lines(path) as file:
        try:
            header, kinds = _kinds(path, file, reading.label)
            rows = csv.reader(file.rewind())
            next(rows)
            while chunk := list(islice(rows, reading.num_rows)):
                columns = [[_PARSE[kind](row[i]) for row in chunk] for i, kind in enumerate(kinds)]
                yield table(header, columns, [kind < 2 for kind in kinds], reading.label, file.done)
        except csv.Error as error:  # a field of more than 128 KiB, a NUL byte
            raise DaemonError(f"{file.place}: {error}") from None


def _kinds(path: Path, file: Lines, label: str | None) -> tuple[list[str], list[int]]:
    rows = csv.reader(file)
    header = next(rows, list[str]())
    check_label(path, header, label)
    kinds = [0] * len(header)
    for row in rows:
        if len(row) != len(header):
            raise DaemonError(
                f"{file.place}: {len(row)} fields; the first line names {len(header)}"
            )
        kinds = [max(kind, _kind(value)) for kind, value in zip(kinds, row, strict=True)]
    return header, kinds


def check_label(path: Path, header: list[str], label: str | None) -> None:
    """Refuse a label that is no column, and a table without inputs."""
    if label is not None and label not in header:
        raise ConfigError(f"--label {label!r} is no column of {path}; it has {', '.join(header)}")
    if not header or header == [label]:
        raise DaemonError(f"{path} has no input column; its first line must name the columns")


def table(
    header: list[str],
    columns: list[list[Any]],
    is_number: list[bool],
    label: str | None,
    done: float,
) -> Part:
    """Named columns as rows: one column of text as raw strings, numbers as floats, else side by side as they are."""
    y = columns[header.index(label)] if label is not None else None
    inputs = [column for name, column in zip(header, columns, strict=True) if name != label]
    numeric = all(good for name, good in zip(header, is_number, strict=True) if name != label)
    if len(inputs) == 1 and not numeric:
        return Part(inputs[0], y, done=done)
    rows = [list(row) for row in zip(*inputs, strict=True)]
    x = [[float(value) for value in row] for row in rows] if numeric else rows
    return Part(x, y, done=done)


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


_PARSE: tuple[Callable[[str], int | float | str], ...] = (int, _number, str)
