"""Named tensors and JSON to and from files: a streaming safetensors writer and a strict reader."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine.errors import StateError
from mtl_engine.types import Array, Json

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_MAX_HEADER_BYTES = 100_000_000  # the limit of the format's own library
_ALIGNMENT = 8  # bytes; the header is padded so that data start aligned


@dataclass(slots=True)
class Segment:
    """Tensors that change rarely and together; `version` moves whenever any of them changed."""

    version: int
    tensors: dict[str, Tensor]


@dataclass(slots=True)
class EngineState:
    """Everything needed to go on: live references, not copies, so stage them before the next step."""

    meta: Json
    tensors: dict[str, Tensor]
    segments: dict[str, Segment] = field(default_factory=dict[str, Segment])


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as written."""

    name: str
    sha256: str
    bytes: int


def as_tensors(values: Mapping[str, Tensor | Array]) -> dict[str, Tensor]:
    """Numpy arrays as tensors that share their memory."""
    return {
        name: value if isinstance(value, Tensor) else torch.from_numpy(value)
        for name, value in values.items()
    }


def write_tensors(path: Path, tensors: Mapping[str, Array | Tensor]) -> FileInfo:
    """Write a .safetensors file, hashing on the way, and fsync it; copies only what is not contiguous."""
    arrays = {name: _array(name, value) for name, value in tensors.items()}
    order = sorted(
        arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)
    )  # keeps every tensor aligned
    header: Json = {}
    offset = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for part in (
            len(text).to_bytes(8, "little"),
            text,
            *(arrays[name].reshape(-1).view(np.uint8).data for name in order),
        ):
            digest.update(part)
            size += file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return FileInfo(path.name, digest.hexdigest(), size)


def read_tensors(path: Path, *, mapped: bool = False) -> dict[str, Array]:
    """All tensors of a .safetensors file; StateError when anything about the file is not as it must be.

    `mapped`: they are read when they are looked at, and need no memory that the kernel could not take back; what is
    written to them does not reach the file.
    """
    try:
        content = _mapped(path) if mapped else np.fromfile(path, np.uint8)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    length = int.from_bytes(content[:8].tobytes(), "little")
    if len(content) < 8 or length > min(len(content) - 8, _MAX_HEADER_BYTES):
        raise StateError(
            f"{path} is torn: {len(content)} bytes do not hold the header they announce"
        )
    try:
        header: Json = json.loads(content[8 : 8 + length].tobytes())
    except ValueError as error:
        raise StateError(f"{path} has a damaged header: {error}") from error
    data = content[8 + length :]
    found: dict[str, Array] = {}
    end = 0
    for name, entry in sorted(
        ((n, e) for n, e in header.items() if n != "__metadata__"),
        key=lambda item: item[1]["data_offsets"],
    ):
        dtype = np.dtype(_DTYPES.get(str(entry["dtype"]), np.void))
        start, stop = (int(n) for n in entry["data_offsets"])
        shape = tuple(int(n) for n in entry["shape"])
        if (
            dtype not in _NAMES
            or start != end
            or stop - start != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            or stop > len(data)
        ):
            raise StateError(f"{path}: {name} is damaged: {entry}")
        found[name] = data[start:stop].view(dtype).reshape(shape)
        end = stop
    if end != len(data):
        raise StateError(f"{path} has {len(data) - end} bytes that no tensor claims")
    return found


def _mapped(path: Path) -> Array:
    if not path.stat().st_size:
        return np.zeros(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, mode="c"))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _array(name: str, value: Array | Tensor) -> Array:
    array: Any = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype not in _NAMES:
        raise StateError(f"{name} is {array.dtype}: allowed are {', '.join(sorted(_DTYPES))}")
    return array
