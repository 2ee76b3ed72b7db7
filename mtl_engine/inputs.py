"""Checks the inputs of rows by modality and brings them into the dtype and layout they are kept in."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from mtl_engine.errors import BadRows
from mtl_engine.types import LARGEST, RANKS, Array, Json, TaskSpec

MAX_TEXT_BYTES = (
    1 << 28
)  # of the padded texts of one event; a short event may ask for far more than it sends
_FLOATS = {"float16": ("float16",), "float32": ("float32", "float16"), "uint8": ("uint8",)}


@dataclass(frozen=True, slots=True)
class InputTable:
    """What rows that share an encoder and a replay table have in common; `shape` is of one row."""

    name: str
    modality: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    encoder: Json  # a name and arguments

    def to_dict(self) -> Json:
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, given: Json) -> InputTable:
        shape: tuple[int, ...] = tuple(given["shape"])
        return cls(
            given["name"],
            given["modality"],
            shape,
            given["dtype"],
            given["scale"],
            given["encoder"],
        )


def table_of(spec: TaskSpec, encoder: Json, x: Array) -> InputTable:
    """The table for rows like `x`; its name says modality, shape, dtype and encoder."""
    shape, dtype = x.shape[1:], str(x.dtype)
    scale = spec.scale if dtype == "uint8" and spec.modality == "image" else 1.0
    extra = {key: value for key, value in encoder.items() if key != "name"}
    name = (
        f"{spec.modality}-{'x'.join(map(str, shape))}-{dtype}-{encoder['name'].rpartition(':')[2]}"
    )
    if extra or scale not in (1.0, 1 / 255):
        text = repr((sorted(extra.items()), scale)).encode()
        name += "-" + hashlib.blake2b(text, digest_size=4).hexdigest()
    return InputTable(name, spec.modality, shape, dtype, scale, encoder)


def check(
    spec: TaskSpec, encoder: Json, bound: InputTable | None, x: Any
) -> tuple[Array, Array | None]:
    """`x` as kept, and the lengths of texts; raises BadRows. `bound` is what the task's first rows decided."""
    if bound is not None and bound.dtype == "uint8" and _as_kept(bound, x):
        return x, None
    if x is None:
        raise BadRows("empty", f"rows of {spec.name} have no inputs x")
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    if spec.modality == "text":
        return _text(spec, x)
    found = (
        _table(spec, encoder, bound, x) if spec.modality == "table" else _numbers(spec, bound, x)
    )
    return (
        found if found.flags.writeable else found.copy(),
        None,
    )  # torch refuses memory it may not write


def _as_kept(bound: InputTable, x: Any) -> bool:
    """Whether these are bytes that need no other check, the usual case for images."""
    return (
        type(x) is np.ndarray
        and x.dtype == np.uint8
        and x.shape[1:] == bound.shape
        and len(x) > 0
        and x.flags.carray  # in order, aligned, and writeable: torch refuses other memory
        and bound.modality == "image"
    )


def _shape(spec: TaskSpec, bound: InputTable | None, x: Array) -> None:
    expected = bound.shape if bound else spec.input_shape
    if expected is None:
        ranks = RANKS[spec.modality]
        if x.ndim - 1 not in ranks:
            raise BadRows(
                "wrong_rank",
                f"x of {spec.name} has shape {x.shape}: allowed are rows of {' or '.join(map(str, ranks))} axes, or declare input_shape",
            )
    elif x.ndim != len(expected) + 1:
        raise BadRows(
            "wrong_rank",
            f"x of {spec.name} has shape {x.shape}: allowed is (rows, {', '.join(map(str, expected))})",
        )
    if not len(x):
        raise BadRows("empty", f"x of {spec.name} has no rows")
    if (expected is not None and x.shape[1:] != tuple(expected)) or 0 in x.shape:
        raise BadRows(
            "wrong_shape",
            f"x of {spec.name} has shape {x.shape}: allowed is (rows, {', '.join(map(str, expected or ('at least 1',)))})",
        )


def _numbers(spec: TaskSpec, bound: InputTable | None, x: Any) -> Array:
    """Images and embeddings."""
    listed = isinstance(x, (list, tuple))
    try:
        found = np.asarray(x)
    except ValueError as error:
        raise BadRows(
            "wrong_shape", f"x of {spec.name}: {error}; allowed are rows of one shape"
        ) from error
    if listed and found.dtype == object:
        raise BadRows(
            "wrong_dtype",
            f"x of {spec.name} holds something that is not a number, or rows of different lengths",
        )
    _shape(spec, bound, found)
    allowed = (
        ("uint8", "float16", "float32") if spec.modality == "image" else ("float16", "float32")
    )
    if listed and found.dtype.kind in "iu":
        bytes_ = (
            spec.modality == "image"
            and (bound.dtype == "uint8" if bound else True)
            and bool(((found >= 0) & (found <= 255)).all())
        )
        found = found.astype(np.uint8 if bytes_ else np.float32)
    elif found.dtype == np.float64:
        with np.errstate(over="ignore"):
            found = found.astype(np.float32)
    name = _dtype_name(found.dtype)
    if name not in allowed or (bound and name not in _FLOATS[bound.dtype]):
        raise BadRows(
            "wrong_dtype",
            f"x of {spec.name} is {name}: allowed is {bound.dtype if bound else ', '.join(allowed)}",
        )
    found = np.ascontiguousarray(found, dtype=bound.dtype if bound else name)
    _finite(spec, found)
    return found


@lru_cache(maxsize=64)
def _dtype_name(dtype: np.dtype[Any]) -> str:
    return dtype.newbyteorder("=").name


def _finite(spec: TaskSpec, x: Array, *, nan_is_missing: bool = False) -> None:
    limit = np.float32(
        LARGEST
    )  # a plain number would become infinite in float16, and let infinity in
    if x.dtype == np.uint8 or (np.abs(x) <= limit).all():
        return
    if not nan_is_missing and bool(np.isnan(x).any()):
        raise BadRows("nan_input", f"x of {spec.name} holds NaN: allowed are finite numbers")
    if bool((np.abs(x) > limit).any()):
        raise BadRows(
            "infinite_input",
            f"x of {spec.name} holds a value beyond {LARGEST:g}: allowed are numbers below that",
        )


def _table(spec: TaskSpec, encoder: Json, bound: InputTable | None, x: Any) -> Array:
    """float32 [B, F]: numbers, NaN where missing, bucket numbers in categorical columns."""
    try:
        found = np.asarray(x, object) if isinstance(x, (list, tuple)) else np.asarray(x)
    except ValueError as error:
        raise BadRows(
            "wrong_shape", f"x of {spec.name}: {error}; allowed are rows of one length"
        ) from error
    _shape(spec, bound, found)
    categorical = [int(column) for column in encoder.get("categorical", ())]
    if any(not 0 <= column < found.shape[1] for column in categorical):
        raise BadRows(
            "wrong_shape",
            f"x of {spec.name} has {found.shape[1]} columns: its encoder names the categorical columns {categorical}",
        )
    kept = found.astype(object) if categorical else found
    for column in categorical:
        values = found[:, column].tolist()
        if not {str, int, float, bool, type(None)} >= set(map(type, values)):
            raise BadRows(
                "wrong_dtype",
                f"column {column} of {spec.name} holds something else than strings and numbers",
            )
        kept[:, column] = [_bucket(value, int(encoder.get("buckets", 1024))) for value in values]
    if kept.dtype.kind not in "biufO" or (
        kept.dtype == object
        and any(issubclass(kind, (str, bytes)) for kind in set(map(type, kept.flat)))
    ):
        raise BadRows(
            "wrong_dtype",
            f"x of {spec.name} holds text: allowed are numbers; name text columns in the encoder, for example encoder = {{name = 'table', categorical = [0]}}",
        )
    try:
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(kept, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRows(
            "wrong_dtype", f"x of {spec.name}: {error}; allowed are numbers, null where missing"
        ) from error
    _finite(spec, kept, nan_is_missing=True)
    return kept


@lru_cache(maxsize=65_536)
def _bucket(value: str | float | None, buckets: int) -> float:
    """The bucket of a category, 0 .. buckets - 1; NaN where missing. 3, 3.0 and "3" are one category."""
    if value is None or value != value:  # only NaN differs from itself
        return float("nan")
    text = f"{value:.9g}" if isinstance(value, (int, float)) else str(value)
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return float(int.from_bytes(digest, "little") % buckets)


def _text(spec: TaskSpec, x: Any) -> tuple[Array, Array]:
    """uint8 [B, T] padded with zeros, and lengths int32 [B]; longer texts are cut at max_bytes."""
    found = np.asarray(x, object) if isinstance(x, (list, tuple)) else np.asarray(x)
    if found.dtype == np.uint8 and found.ndim == 2:
        return _padded(spec, found)
    if found.ndim != 1:
        raise BadRows(
            "wrong_rank",
            f"x of {spec.name} has {found.ndim} axes: allowed is a list of strings or padded uint8 (rows, bytes)",
        )
    texts = found.tolist()
    if not texts:
        raise BadRows("empty", f"x of {spec.name} has no rows")
    _check_text_bytes(spec, len(texts))
    kinds = set(map(type, texts))
    if not kinds <= {str, bytes}:
        raise BadRows(
            "wrong_dtype",
            f"x of {spec.name} holds {', '.join(sorted(k.__name__ for k in kinds))}: allowed are strings",
        )
    try:
        encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    except UnicodeEncodeError as error:
        raise BadRows(
            "wrong_dtype", f"x of {spec.name} cannot be written as UTF-8: {error}"
        ) from error
    fixed = np.array(encoded, dtype=f"S{spec.max_bytes}")  # pads with zeros and cuts
    length_B = np.minimum(
        np.fromiter(map(len, encoded), np.int32, len(encoded)), spec.max_bytes
    ).astype(np.int32)
    return fixed.view(np.uint8).reshape(len(encoded), spec.max_bytes), length_B


def _check_text_bytes(spec: TaskSpec, rows: int) -> None:
    if rows * spec.max_bytes > MAX_TEXT_BYTES:
        raise BadRows(
            "oversized",
            f"{rows} texts of {spec.name} take {rows * spec.max_bytes} bytes when padded to max_bytes = {spec.max_bytes}: "
            f"allowed are {MAX_TEXT_BYTES}; send at most {MAX_TEXT_BYTES // spec.max_bytes} rows in one event",
        )


def _padded(spec: TaskSpec, x_BT: Array) -> tuple[Array, Array]:
    if not x_BT.size:
        raise BadRows("empty", f"x of {spec.name} has no rows")
    if x_BT.shape[1] > spec.max_bytes:
        raise BadRows(
            "wrong_shape",
            f"x of {spec.name} has {x_BT.shape[1]} bytes a row: allowed are {spec.max_bytes}; raise max_bytes",
        )
    _check_text_bytes(spec, len(x_BT))
    full_BT = np.zeros((len(x_BT), spec.max_bytes), np.uint8)
    full_BT[:, : x_BT.shape[1]] = x_BT
    length_B = np.where(full_BT.any(1), spec.max_bytes - (full_BT[:, ::-1] != 0).argmax(1), 0)
    return full_BT, length_B.astype(np.int32)
