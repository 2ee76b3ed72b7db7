"""What a producer hands over (numpy, torch, pandas, lists) as the bytes of one event; torch and pandas are not imported.

Arrays travel as safetensors. Strings, and anything beside strings, travel as JSON, since tensors hold no text.
float64 becomes float32: it is what the engine computes with.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from daemon.types import Json

TENSORS = "application/vnd.safetensors"
JSON = "application/json"

Column = np.ndarray | list[Any]


def encode(columns: Mapping[str, Any]) -> tuple[str, bytes, int]:
    """Content type, bytes and number of rows of the columns `x`, `y`, `mask`, `weight` (or `y.<task>`, ...)."""
    found = {name: column(name, value) for name, value in columns.items() if value is not None}
    num_rows = _num_rows(found)
    if all(isinstance(value, np.ndarray) for value in found.values()):
        import safetensors.numpy as tensors  # only producers of arrays need it

        arrays = cast("dict[str, np.ndarray]", found)
        return TENSORS, tensors.save(arrays), num_rows
    return JSON, _json(found), num_rows


def column(name: str, value: Any) -> Column:
    """An array, or a list where there is text: one item a row."""
    value = _from_torch(_from_pandas(value))
    found = cast("np.ndarray", value) if isinstance(value, np.ndarray) else _from_list(name, value)
    return found if isinstance(found, list) else _from_array(name, found)


def _from_array(name: str, array: np.ndarray) -> Column:
    if array.ndim == 0:
        msg = f"{name} is a single value; give one item a row"
        raise ValueError(msg)
    if array.dtype.kind in "OUST":
        return cast("list[Any]", array.tolist())
    if array.dtype.kind not in "biuf":
        msg = f"{name} has dtype {array.dtype}; allowed are numbers, booleans and strings"
        raise ValueError(msg)
    if array.dtype == np.bool_ and name == "x":
        array = array.astype(np.uint8)
    if array.dtype == np.float64 or array.dtype.itemsize > 8:
        array = array.astype(np.float32)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _from_torch(value: Any) -> Any:
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _from_pandas(value: Any) -> Any:
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        return value
    return value.to_numpy()


def _from_list(name: str, value: Any) -> Column:
    if not isinstance(value, (list, tuple)):
        msg = f"{name} is a {type(value).__name__}; give a numpy array, a torch tensor, pandas or a list"
        raise TypeError(msg)
    rows = list(cast("list[Any]", value))
    if any(isinstance(row, str) for row in rows):
        return rows
    if rows and not np.isscalar(rows[0]):
        rows = [_from_torch(row) for row in rows]
    try:
        array = np.asarray(rows)
    except ValueError as error:
        msg = f"{name} has rows of different shapes; an event holds rows of one shape"
        raise ValueError(msg) from error
    return rows if array.dtype.kind in "OUS" else array


def _num_rows(columns: Mapping[str, Column]) -> int:
    sizes = {name: len(value) for name, value in columns.items()}
    if "x" not in sizes or min(sizes.values()) != max(sizes.values()) or sizes["x"] == 0:
        msg = (
            f"found rows {sizes}; x is needed, with at least one row, and all columns as long as x"
        )
        raise ValueError(msg)
    return sizes["x"]


def _json(columns: Mapping[str, Column]) -> bytes:
    document: Json = {}
    for name, value in columns.items():
        field, _, task = name.partition(".")
        listed: Any = (
            _without_nan(value.tolist()) if isinstance(value, np.ndarray) else _plain(value)
        )
        if task:
            document.setdefault(field, {})[task] = listed
        else:
            document[field] = listed
    x = columns["x"]
    if isinstance(x, np.ndarray):
        document["dtype"] = {"x": _json_dtype(x)}
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _json_dtype(array: np.ndarray) -> str:
    """JSON has one kind of number, so the inputs say which of the three allowed ones is meant."""
    if array.dtype == np.uint8:
        return "uint8"
    return "float32" if array.dtype.kind == "f" else "int64"


def _plain(rows: list[Any]) -> list[Any]:
    """Python values only: numpy scalars and bytes are not JSON."""
    return [_plain_one(row) for row in rows]


def _plain_one(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return _plain(list(cast("list[Any]", value)))
    if isinstance(value, bytes):
        return value.decode()
    value = cast("Any", value.item() if isinstance(value, np.generic) else value)
    return None if isinstance(value, float) and math.isnan(value) else value  # NaN is sent as null


def _without_nan(value: Any) -> Any:
    return _plain(cast("list[Any]", value)) if isinstance(value, list) else value
