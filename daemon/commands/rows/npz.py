"""Rows of a .npz file: a zip of .npy arrays, unpacked as they are read; a pickle is never read.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy

from daemon.commands.rows.part import Column, Part, Reading, arrays
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(path: Path, reading: Reading) -> Iterator[Part]:
    """All arrays side by side, each from a stream of its own."""
    try:
        with ZipFile(path) as archive, ExitStack() as streams:
            columns = {
                name.removesuffix(".npy"): _column(
                    f"{path}: {name}", streams.enter_context(archive.open(name))
                )
                for name in archive.namelist()
            }
            yield from arrays(path, columns, reading.num_rows)
    except BadZipFile as error:
        raise DaemonError(f"{path} is not a whole npz file: {error}") from None


def _column(place: str, stream: IO[bytes]) -> Column:
    try:
        shape, fortran, dtype = _HEADERS[npy.read_magic(stream)](stream)
    except (ValueError, KeyError) as error:
        raise DaemonError(f"{place} is not an array that numpy saved: {error}") from None
    if dtype.hasobject:
        raise DaemonError(f"{place} holds Python objects; those are pickles, which are never read")
    if fortran and len(shape) > 1:
        raise DaemonError(
            f"{place} is stored by columns, not by rows; save numpy.ascontiguousarray of it"
        )
    if not shape:
        return Column(None, dtype.itemsize, lambda _start, _count: None)
    row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def take(_start: int, count: int) -> np.ndarray[Any, Any]:
        data = stream.read(count * row_bytes)
        if len(data) != count * row_bytes:
            raise DaemonError(f"{place} ends before its {shape[0]} rows")
        return np.frombuffer(data, dtype).reshape(count, *shape[1:])

    return Column(shape[0], row_bytes, take)
