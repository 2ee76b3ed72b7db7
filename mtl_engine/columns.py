"""Where the columns of replay lie: on the device, or in files that the kernel keeps in memory as far as there is room."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine.errors import EngineError
from mtl_engine.types import Array

_CHUNK = 4096  # rows copied at once


@dataclass(frozen=True, slots=True)
class Place:
    """A device, or with a `folder` files on the host.

    A file has no name from the start on, so it is gone with the process however that ends. Its room on the disk
    is reserved at once: a full disk is an EngineError then, and not a signal in some later step.
    """

    device: torch.device
    folder: Path | None = None

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A column of zeros; on the host its memory is taken as rows are written."""
        if self.folder is None and self.device.type != "cpu":
            return torch.zeros(shape, dtype=dtype, device=self.device)
        of_numpy = torch.empty(0, dtype=dtype).numpy().dtype
        if self.folder is None or not math.prod(shape):
            return torch.from_numpy(np.zeros(shape, of_numpy))
        return torch.from_numpy(_mapped(self.folder, shape, of_numpy))


def folder_of(given: str | Path | None) -> Path | None:
    """The folder of a setting, made where it is missing; EngineError where no file can be written in it."""
    if given is None:
        return None
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise EngineError(
            f"buffer_dir {folder} cannot be written: {error}; name a folder on a local disk"
        ) from error


def on(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's memory on a device: at once on CPU, where even a call of `to` is seen in a step."""
    return host if device.type == "cpu" else host.to(device, non_blocking=True)


def taken(column: Tensor, slot_N: Array) -> Tensor:
    """Some rows of a column. On CPU by numpy, whose small calls cost a fraction of torch's."""
    if column.is_cpu:
        return torch.from_numpy(column.numpy().take(slot_N, 0))
    return column.index_select(0, torch.from_numpy(slot_N).to(column.device))


def after(before: Array | None, column: Tensor, slot_N: Array) -> Tensor:
    """Rows of the host, if there are any, and after them some rows of a column, where the column is."""
    if before is None:
        return taken(column, slot_N)
    if not column.is_cpu:
        rows = torch.from_numpy(before).to(column.device, non_blocking=True)
        return torch.cat([rows, taken(column, slot_N)])
    size = len(before)
    found = np.empty((size + len(slot_N), *before.shape[1:]), before.dtype)
    found[:size] = before
    column.numpy().take(slot_N, 0, out=found[size:], mode="clip")  # any other mode copies once more
    return torch.from_numpy(found)


def put(column: Tensor, slot_N: Array, row_N: Tensor) -> None:
    """Write rows, which are where the column is, into different slots."""
    if column.is_cpu:
        column.numpy()[slot_N] = row_N.numpy()
    else:
        column[torch.from_numpy(slot_N).to(column.device)] = row_N


def copied(old: Tensor, new: Tensor, source: Array, target: Array) -> Tensor:
    """`new` with some rows of `old`, few at a time; where `new` is wider, the rest of a row stays as it is."""
    inside = (slice(None), *(slice(0, size) for size in old.shape[1:]))
    for start in range(0, len(source), _CHUNK):
        rows = torch.from_numpy(source[start : start + _CHUNK]).to(old.device)
        to = torch.from_numpy(target[start : start + _CHUNK]).to(new.device)
        if old.shape[1:] == new.shape[1:]:
            new.index_copy_(0, to, old.index_select(0, rows))
        else:
            new[(to, *inside[1:])] = old.index_select(0, rows)
    return new


def moved(column: Array, capacity: int, source: Array, target: Array) -> Array:
    """Some rows of a column that is no tensor in a new one; zeros elsewhere."""
    new = np.zeros((capacity, *column.shape[1:]), column.dtype)
    new[target] = column[source]
    return new


def joined(
    place: Place, name: str, parts: Sequence[Mapping[str, Any]], sizes: Sequence[int]
) -> Tensor:
    """A column from its segments of so many rows; one that was written before it existed, or was as wide, has zeros there."""
    found = [torch.as_tensor(part[name]) for part in parts if name in part]
    widest = max(found, key=lambda column: column.shape[1:].numel())
    whole = place.zeros((sum(sizes), *widest.shape[1:]), widest.dtype)
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        if name in part:
            column = torch.as_tensor(part[name])
            inside = (slice(start, start + size), *(slice(0, n) for n in column.shape[1:]))
            whole[inside] = column.to(whole.device)
        start += size
    return whole


def _no_room(folder: Path, size: int) -> EngineError:
    return EngineError(
        f"buffer_dir {folder} has no room for {size:,} bytes of replay: free some, or make buffer_rows smaller"
    )


def _mapped(folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    size = math.prod(shape) * dtype.itemsize
    if shutil.disk_usage(folder).free < size:  # a reservation would fill the disk before it fails
        raise _no_room(folder, size)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            found = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise _no_room(folder, size) from error
    found.madvise(mmap.MADV_RANDOM)  # rows are drawn at random: reading ahead would read in vain
    return np.frombuffer(found, dtype).reshape(shape)
