"""Reads the columns of a .npz file: a zip of .npy files, without pickle and without trusting any size in it.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.encodings.columns import MAX_COLUMNS, MAX_RANK
from daemon.encodings.lists import column
from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.encodings.columns import Column

_HEADER = re.compile(  # every numpy writes exactly this; nothing is evaluated
    rb"\{'descr': '([<>|=]?)([a-zA-Z])(\d{0,6})', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \} *\n?"
)
_MAX_HEADER_BYTES = 4096
_UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the ones whose output can be bounded
_LAST_CODE, _SURROGATES = (
    0x10FFFF,
    0xD800 >> 11,
)  # of Unicode; numpy reads any four bytes as a character
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
_NUMBERS = {
    f"{kind}{size}"
    for kind, size in ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
}


def columns(data: bytes, max_bytes: int) -> dict[str, Column]:
    """All arrays by name; strings (dtype U) too. `max_bytes` bounds what the file unpacks to."""
    if (
        data.count(b"PK\1\2") > MAX_COLUMNS
    ):  # before a directory of a million entries becomes objects
        raise BadEvent("too_many_columns", f"more than {MAX_COLUMNS} arrays in one file")
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, max_bytes)
            return dict(_column(archive, member) for member in members)
    except _UNREADABLE as error:
        raise BadEvent("bad_npz", f"not a .npz that can be read: {shown(str(error))}") from error


def _column(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, Column]:
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as file:
        # a size to read: without one zipfile unpacks whatever is there before it looks at the declared size
        array = _array(file.read(member.file_size))
    return name, column(name, _strings(array)) if array.dtype.kind == "U" else array


def _check_members(members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(members) > MAX_COLUMNS:
        raise BadEvent("too_many_columns", f"{len(members)} arrays, at most {MAX_COLUMNS}")
    if any(member.compress_type not in _UNPACKED for member in members):
        raise BadEvent("bad_npz", "compressed with something else than deflate, as numpy does")
    names = {member.filename for member in members}
    if len(names) != len(members):
        raise BadEvent("duplicate_key", "the .npz holds one name twice: send each array once")
    if not all(name.endswith(".npy") for name in names):
        raise BadEvent("bad_npz", f"members {shown(sorted(names))}: allowed are .npy arrays")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_bytes:
        raise BadEvent("reference_too_large", f"unpacks to {unpacked} bytes, at most {max_bytes}")


def _array(member: bytes) -> np.ndarray:
    dtype, shape, fortran, start = _header(member)
    count = math.prod(shape)
    if start + count * dtype.itemsize != len(member):
        raise BadEvent(
            "bad_npz", f"an array of shape {shown(shape)} does not fill its {len(member)} bytes"
        )
    if count == 0:
        raise BadEvent("empty", f"an array of shape {shown(shape)} holds nothing")
    array = np.frombuffer(member, dtype, count, start).reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "b" and array.view(np.uint8).max() > 1:
        raise BadEvent("bad_bool", "a bool array holds bytes other than 0 and 1")
    array = np.ascontiguousarray(array)
    return array if array.flags.aligned else array.copy()


def _header(member: bytes) -> tuple[np.dtype[Any], list[int], bool, int]:
    if member[:6] != b"\x93NUMPY" or len(member) < 12:
        raise BadEvent(
            "bad_npz", f"a member starts with {shown(member[:6])}: allowed are .npy arrays"
        )
    length_bytes = 2 if member[6] == 1 else 4
    start = 8 + length_bytes
    end = start + int.from_bytes(member[8:start], "little")
    header = _HEADER.fullmatch(member[start:end]) if end - start <= _MAX_HEADER_BYTES else None
    if header is None:
        raise BadEvent(
            "bad_npz", f"an array header that numpy does not write: {shown(member[start:end])}"
        )
    order, kind, size, fortran, dims = (part.decode() for part in header.groups())
    if kind == "O":
        raise BadEvent(
            "pickled_objects", "an array of Python objects is a pickle: save numbers or strings"
        )
    if order == ">" or (kind + size not in _NUMBERS and kind != "U"):
        raise BadEvent(
            "unknown_dtype",
            f"dtype {order}{kind}{size}: allowed are {', '.join(sorted(_NUMBERS))}, U",
        )
    shape = [int(dim) for dim in dims.replace(" ", "").split(",") if dim]
    if not 1 <= len(shape) <= MAX_RANK:
        raise BadEvent("wrong_rank", f"an array has rank {len(shape)}, allowed are 1 to {MAX_RANK}")
    return np.dtype(f"<{kind}{size}"), shape, fortran == "True", end


def _strings(array: np.ndarray) -> list[Any]:
    code = array.view("<u4")
    if ((code > _LAST_CODE) | ((code >> 11) == _SURROGATES)).any():
        raise BadEvent("invalid_utf8", "a string of an array has a code that is no character")
    return array.tolist()
