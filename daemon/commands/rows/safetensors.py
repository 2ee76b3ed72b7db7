"""Rows of a .safetensors file, which is mapped into memory and read slice by slice."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

from daemon.commands.rows.part import Column, Part, Reading, arrays
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read(path: Path, reading: Reading) -> Iterator[Part]:
    """The tensors side by side."""
    path.open("rb").close()  # says more of a missing file than the library does
    try:
        with cast("Any", safe_open(path, framework="np")) as file:
            names: list[str] = file.keys()
            columns = {name: _column(file.get_slice(name)) for name in names}
            yield from arrays(path, columns, reading.num_rows)
    except SafetensorError as error:
        raise DaemonError(f"{path} is not a safetensors file: {error}") from None


def _column(tensor: Any) -> Column:
    shape = tensor.get_shape()
    bits = re.search(r"\d+", tensor.get_dtype())  # U8, F32, and BOOL, which takes 8
    return Column(
        shape[0] if shape else None,
        math.prod(shape[1:]) * (int(bits[0]) if bits else 8) // 8,
        lambda start, count: tensor[start : start + count],
    )
