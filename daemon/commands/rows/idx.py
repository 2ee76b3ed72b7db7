"""Rows of an idx file, as MNIST has them, gzipped or not: the images in one file, their labels in another (--label).

http://yann.lecun.com/exdb/mnist/ ("The IDX file format"): two zero bytes, the type, the number of axes, each axis as a
big-endian uint32, the values.
"""

from __future__ import annotations

import gzip
import math
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from daemon.commands.rows.part import Column, Part, Reading, arrays
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read(path: Path, reading: Reading) -> Iterator[Part]:
    """The images, and the labels where --label names their file; without it the rows are unlabelled."""
    with ExitStack() as files:
        columns = {"x": _column(files, path)}
        if reading.label is not None:
            columns["y"] = _column(files, Path(reading.label))
        yield from arrays(path, columns, reading.num_rows)


def _column(files: ExitStack, path: Path) -> Column:
    stream: IO[bytes] = files.enter_context(path.open("rb"))
    if path.suffix.lower() == ".gz":
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or not head[3]:
        raise DaemonError(f"{path} is not an idx file: it begins with {head!r}")
    shape = np.frombuffer(_exactly(stream, path, 4 * head[3]), ">u4").tolist()
    dtype = np.dtype(_DTYPES[head[2]])
    row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def take(_start: int, count: int) -> np.ndarray[Any, Any]:
        data = _exactly(stream, path, count * row_bytes)
        return np.frombuffer(data, dtype).reshape(count, *shape[1:])

    return Column(shape[0], row_bytes, take)


def _exactly(stream: IO[bytes], path: Path, num_bytes: int) -> bytes:
    data = stream.read(num_bytes)
    if len(data) != num_bytes:
        raise DaemonError(f"{path} ends too early: it is not whole")
    return data
