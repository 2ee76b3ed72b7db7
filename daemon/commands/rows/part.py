"""What every reader gives and takes: the rows of one event, and how a file is to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.errors import DaemonError

if TYPE_CHECKING:
    from daemon.types import Json

COLUMNS = ("x", "y", "mask", "weight")
PART_BYTES = 12 << 20  # of one event's arrays; an event may have 16 MiB with everything around them


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one event, as `Producer.push` takes them; `done` is the part of the file that is read then."""

    x: Any
    y: Any = None
    mask: Any = None
    weight: Any = None
    done: float | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is done to every picture of a folder: `size` is width and height."""

    size: tuple[int, int] | None = None
    grey: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read: rows of an event at most, where its labels are, what is done to pictures."""

    num_rows: int
    label: str | None = None
    pictures: Pictures = field(default_factory=Pictures)


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a file: its rows, the bytes of a row, and how to read rows from `start` on, in order."""

    num_rows: int | None  # None: a single value
    row_bytes: int
    take: Callable[[int, int], Any]


def arrays(path: Path, columns: Mapping[str, Column], num_rows: int) -> Iterator[Part]:
    """Parts of arrays by name: x, y, mask, weight, or y.<task> and so on where rows serve several tasks."""
    check_names(path, columns)
    total = columns["x"].num_rows or 0
    uneven = sorted(name for name, one in columns.items() if one.num_rows != total)
    if uneven:
        raise DaemonError(f"{path}: {uneven[0]} does not have the {total} rows of x")
    step = at_once(path, num_rows, sum(one.row_bytes for one in columns.values()))
    for start in range(0, total, step):
        count = min(step, total - start)
        rows = {name: one.take(start, count) for name, one in columns.items()}
        yield named(rows, (start + count) / total)


def check_names(path: Path, names: Mapping[str, Any]) -> None:
    """Refuse a file of named columns that has others than ours."""
    strange = [name for name in names if name.partition(".")[0] not in COLUMNS]
    if "x" not in names or strange:
        raise DaemonError(
            f"{path} holds {', '.join(sorted(names)) or 'nothing'}; allowed are x, y, mask, weight, y.<task>"
        )


def named(rows: Mapping[str, Any], done: float | None) -> Part:
    """Columns by name as a part; `y.<task>` become a mapping by task."""
    columns: Json = {}
    for name, value in rows.items():
        kind, _, task = name.partition(".")
        if task:
            columns.setdefault(kind, {})[task] = value
        else:
            columns[kind] = value
    return Part(**columns, done=done)


def at_once(path: Path, num_rows: int, row_bytes: int) -> int:
    """Rows that one event takes: what was asked for, or fewer where the rows are large."""
    if row_bytes > PART_BYTES:
        raise DaemonError(f"{path}: a row has {row_bytes} bytes; an event takes {PART_BYTES}")
    return max(1, min(num_rows, PART_BYTES // max(row_bytes, 1)))


def inputs(values: list[Any]) -> Any:
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
