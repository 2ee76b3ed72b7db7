"""The words the engine's parts share: task specifications, rows, targets.

Shapes are written into names: B rows, C columns of a head, D features, F table columns, H held-out rows,
M memory slots, S stream rows, T bytes of text. `z` are logits or regression outputs, `x` inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from mtl_engine.errors import EngineError
from mtl_engine.names import unknown

Json = dict[str, Any]
"""A JSON object."""

Array = np.ndarray[Any, Any]
"""A numpy array; its dtype and shape are said where it is used."""

LARGEST = 1e18
"""Magnitude that a number in rows may have: its square still fits float32, and no real measure is beyond it."""

MODALITIES = ("image", "text", "table", "embedding")
KINDS = ("classification", "multilabel", "regression")
RANKS = {"image": (2, 3), "text": (1,), "table": (1,), "embedding": (1,)}
"""Axes that one row of a modality may have."""
UPDATABLE = ("share", "min_share", "loss_weight", "tolerance", "decision")
_WORDS = {"modality": MODALITIES, "kind": KINDS, "decision": ("balanced", "prior")}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SIZES = {"targets": (1, 10_000), "max_classes": (1, 100_000), "max_bytes": (1, 65_536)}
_FACTORS = {"share": 1e6, "min_share": 1.0, "loss_weight": 1e6, "tolerance": 1.0, "holdout": 0.9}


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A named supervised objective with a head of its own.

    `classes` are labels known before any row (columns in that order); `targets` counts the outputs of a
    regression or multilabel task (a multilabel task may name its columns in `classes` instead).
    `decision`: "balanced" answers as trained, every class alike; "prior" with what is most probable in the stream.
    `share` is the task's part of a replay draw against other tasks, never below `min_share`.
    """

    name: str
    modality: str = "image"
    kind: str = "classification"
    input_shape: tuple[int, ...] | None = None  # one row; None = as in the first rows
    encoder: str | Json | None = None  # a known name; None = the engine's choice for the modality
    targets: int = 1
    classes: tuple[int | str, ...] = ()
    max_classes: int = 1000
    max_bytes: int = 512  # of one text, longer ones are cut
    scale: float = 1 / 255  # factor applied to uint8 images
    share: float = 1.0
    min_share: float = 0.0
    loss_weight: float = 1.0
    tolerance: float = 0.01  # fall of a held-out score that the guard accepts
    holdout: float = 0.05  # part of the rows kept for scoring
    decision: str = "balanced"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(str(self.name)):
            raise EngineError(
                f"task name {self.name!r}: allowed are 1 to 64 letters, digits, '_' and '-', first a letter or digit"
            )
        for key, allowed in _WORDS.items():
            if getattr(self, key) not in allowed:
                raise EngineError(
                    unknown(f"{key} of task {self.name}", str(getattr(self, key)), allowed)
                )
        for key, (low, high) in _SIZES.items():
            self._check_number(key, low, high, whole=True)
        for key, high in _FACTORS.items():
            self._check_number(key, 0.0, high, whole=False)
        self._check_number("scale", -1e6, 1e6, whole=False)
        self._check_shape()
        self._check_classes()

    def _check_number(self, key: str, low: float, high: float, *, whole: bool) -> None:
        value = getattr(self, key)
        right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not right or not low <= value <= high:
            what = "a whole number" if whole else "a number"
            raise EngineError(
                f"{key} of task {self.name} is {value!r}: allowed is {what} from {low} to {high}"
            )

    def _check_shape(self) -> None:
        if self.input_shape is None:
            return
        shape: tuple[Any, ...] = tuple(self.input_shape)
        ranks = RANKS[self.modality]
        if len(shape) not in ranks or not all(
            isinstance(n, int) and 0 < n <= 1_000_000 for n in shape
        ):
            raise EngineError(
                f"input_shape of task {self.name} is {self.input_shape!r}: a row of modality {self.modality} "
                f"has {' or '.join(map(str, ranks))} axes, each a whole number from 1 to 1,000,000"
            )
        object.__setattr__(self, "input_shape", shape)

    def _check_classes(self) -> None:
        if isinstance(self.classes, str):
            raise EngineError(
                f"classes of task {self.name} is {self.classes!r}: give a list of labels"
            )
        classes = tuple(self.classes)
        if self.kind == "regression" and classes:
            raise EngineError(
                f"task {self.name} is a regression: it has no classes; leave `classes` out"
            )
        if len(set(classes)) != len(classes) or len(classes) > self.max_classes:
            raise EngineError(
                f"classes of task {self.name}: allowed are at most {self.max_classes} different labels"
            )
        if {type(label) for label in classes} not in (set[type](), {int}, {str}):
            raise EngineError(f"classes of task {self.name}: allowed are all ints or all strings")
        object.__setattr__(self, "classes", classes)

    def changed(self, changes: Mapping[str, Any]) -> TaskSpec:
        """This specification with some of the updatable fields changed; all or nothing."""
        for key in changes:
            if key not in UPDATABLE:
                raise EngineError(unknown(f"change of task {self.name}", key, UPDATABLE))
        return replace(self, **changes)

    def to_dict(self) -> Json:
        return {
            **asdict(self),
            "input_shape": list(self.input_shape) if self.input_shape else None,
            "classes": list(self.classes),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TaskSpec:
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                raise EngineError(unknown("field of a task", key, known))
        if "name" not in given:
            raise EngineError(f"a task needs a name; found only the fields {sorted(given)}")
        arguments = dict(given)
        for key in ("input_shape", "classes"):
            if isinstance(arguments.get(key), list):
                arguments[key] = tuple(arguments[key])
        return cls(**arguments)


@dataclass(frozen=True, slots=True)
class Target:
    """Labels of one task for some rows, in the columns of its head.

    `y`: classification int32 [B], multilabel uint8 [B, C], regression float32 [B, C]. `weight`: float32
    [B] (classification) or [B, C]; 0 = that label is missing; None = all ones.
    """

    y: Array
    weight: Array | None = None

    def take(self, rows: slice | Array) -> Target:
        return Target(self.y[rows], None if self.weight is None else self.weight[rows])

    def ones(self) -> Array:
        """The weights, with ones where there are none."""
        return np.ones(self.y.shape, np.float32) if self.weight is None else self.weight

    def labelled(self) -> Array:
        """Which rows have at least one label, bool [B]."""
        if self.weight is None:
            return np.ones(len(self.y), np.bool_)
        found = self.weight > 0
        return np.asarray(found if found.ndim == 1 else found.any(1))

    def padded(self, width: int) -> Target:
        """With missing labels up to `width` columns; classification has no columns to pad."""
        if self.y.ndim == 1 or self.y.shape[1] >= width:
            return self
        gap = ((0, 0), (0, width - self.y.shape[1]))
        return Target(np.pad(self.y, gap), np.pad(self.ones(), gap))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one input table in log order; rows of one table share an encoder and a replay table.

    `x` [B, ...] is in the dtype it came in (text: padded uint8 [B, T] with `length` int32 [B]).
    `origin` int32 [B] is the number of who sent a row (`senders`), -1 = not told; nothing is learned from it.
    """

    table: str
    x: Array
    length: Array | None = None
    targets: Mapping[str, Target] = field(default_factory=dict[str, Target])
    origin: Array | None = None  # None = not told of any row

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: slice | Array) -> Rows:
        length = None if self.length is None else self.length[rows]
        return Rows(
            self.table,
            self.x[rows],
            length,
            {name: t.take(rows) for name, t in self.targets.items()},
            None if self.origin is None else self.origin[rows],
        )

    def labelled(self) -> Array:
        """Which rows have a label of any task, bool [B]."""
        found = np.zeros(len(self), np.bool_)
        for target in self.targets.values():
            found |= target.labelled()
        return found

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        """Rows one after the other; a task that a part does not have gets weight 0 there."""
        if not parts:
            raise EngineError("concat of no rows: give at least one part")
        if len(parts) == 1:
            return parts[0]
        tables = sorted({part.table for part in parts})
        if len(tables) > 1:
            raise EngineError(
                f"rows of the tables {tables} cannot be joined: only rows of one table can"
            )
        lengths = [part.length for part in parts if part.length is not None]
        names = list(dict.fromkeys(name for part in parts for name in part.targets))
        targets = {
            name: _join([part.targets.get(name) for part in parts], [len(part) for part in parts])
            for name in names
        }
        x = np.concatenate([part.x for part in parts])
        length = np.concatenate(lengths) if lengths else None
        return Rows(tables[0], x, length, targets, _origins(parts))

    def to_arrays(self) -> tuple[dict[str, Array], Json]:
        """Arrays by name and the JSON beside them, for a checkpoint."""
        arrays = {"x": self.x} if self.length is None else {"x": self.x, "length": self.length}
        for name, target in self.targets.items():
            arrays[f"y.{name}"] = target.y
            if target.weight is not None:
                arrays[f"weight.{name}"] = target.weight
        if self.origin is not None:
            arrays["origin"] = self.origin
        return arrays, {"table": self.table, "tasks": list(self.targets)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> Rows:
        targets = {
            name: Target(arrays[f"y.{name}"], arrays.get(f"weight.{name}"))
            for name in meta["tasks"]
        }
        return cls(meta["table"], arrays["x"], arrays.get("length"), targets, arrays.get("origin"))


def _origins(parts: Sequence[Rows]) -> Array | None:
    if all(part.origin is None for part in parts):
        return None
    untold = (
        np.full(len(part), -1, np.int32) if part.origin is None else part.origin for part in parts
    )
    return np.concatenate(list(untold))


def _join(targets: Sequence[Target | None], counts: Sequence[int]) -> Target:
    known = [t for t in targets if t is not None]
    width = max((t.y.shape[1] for t in known if t.y.ndim == 2), default=0)
    filled = [
        _missing(known[0], n, width) if t is None else t.padded(width)
        for t, n in zip(targets, counts, strict=True)
    ]
    y = np.concatenate([t.y for t in filled])
    if all(t.weight is None for t in filled):
        return Target(y)
    return Target(y, np.concatenate([t.ones() for t in filled]))


def _missing(like: Target, n: int, width: int) -> Target:
    shape = (n,) if like.y.ndim == 1 else (n, width)
    return Target(np.zeros(shape, like.y.dtype), np.zeros(shape, np.float32))
