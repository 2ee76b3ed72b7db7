"""Labels of the rows in a replay table, in as few bytes as they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_engine.types import Array, Target


class Labels:
    """One task's labels by slot: `y` as in `Target`, and weights only once a row has another than 1.

    Weights are bytes while all are 0 (no label) or 1, float32 after that.
    """

    def __init__(self, y: Array, weight: Array | None = None) -> None:
        self.y = y
        self.weight = weight

    @classmethod
    def empty(cls, slots: int, like: Target, *, plain: bool) -> Labels:
        """`plain`: no slot is in use by a row without a label of the task."""
        y = np.zeros((slots, *like.y.shape[1:]), like.y.dtype)
        return cls(y, None if plain else np.zeros(y.shape, np.uint8))

    @property
    def plain(self) -> bool:
        """Every row has weight 1."""
        return self.weight is None

    def take(self, slot_N: Array) -> Target:
        if self.weight is None:
            return Target(self.y[slot_N])
        return Target(self.y[slot_N], self.weight[slot_N].astype(np.float32))

    def put(self, slot_N: Array, new: Target | None) -> None:
        """Labels of new rows, None = they have none of this task."""
        if new is None:
            self._weights(np.zeros(1))[slot_N] = 0
            return
        if new.y.ndim == 2 and new.y.shape[1] > self.y.shape[1]:
            self._widen(new.y.shape[1])
        if new.y.ndim == 2:
            new = new.padded(self.y.shape[1])
        self.y[slot_N] = new.y
        if self.weight is not None or not (new.weight is None or bool((new.weight == 1).all())):
            self._weights(new.ones())[slot_N] = new.ones()

    def moved(self, slots: int, source: Array, target: Array) -> Labels:
        """The same labels in a table of so many slots, some of them in other ones."""
        y = np.zeros((slots, *self.y.shape[1:]), self.y.dtype)
        y[target] = self.y[source]
        if self.weight is None:
            return Labels(y)
        weight = np.zeros(y.shape, self.weight.dtype)
        weight[target] = self.weight[source]
        return Labels(y, weight)

    def columns(self, name: str) -> dict[str, Array]:
        found = {f"y.{name}": self.y}
        return found if self.weight is None else found | {f"weight.{name}": self.weight}

    @classmethod
    def joined(
        cls, name: str, parts: Sequence[Mapping[str, Any]], sizes: Sequence[int], *, plain: bool
    ) -> Labels:
        """The labels that segments of so many slots hold.

        One that was written before the task had a column has no label of it, one that was written before the
        task had weights has all its labels.
        """
        ys = [np.asarray(part[f"y.{name}"]) for part in parts if f"y.{name}" in part]
        widest = max(ys, key=lambda y: y.shape[-1] if y.ndim == 2 else 0)
        shape = (sum(sizes), *widest.shape[1:])
        found = cls(np.zeros(shape, widest.dtype))
        if not plain:
            weights = [np.asarray(p[f"weight.{name}"]) for p in parts if f"weight.{name}" in p]
            kind = np.result_type(np.uint8, *(weight.dtype for weight in weights))
            found.weight = np.zeros(shape, kind)
        start = 0
        for part, size in zip(parts, sizes, strict=True):
            here = slice(start, start + size)
            start += size
            if f"y.{name}" in part:
                y = np.asarray(part[f"y.{name}"])
                inside = (here, *(slice(0, width) for width in y.shape[1:]))
                found.y[inside] = y
                if found.weight is not None:
                    found.weight[inside] = part.get(f"weight.{name}", 1)
        return found

    def _weights(self, wanted: Array) -> Array:
        """The column of weights, of a dtype that holds these."""
        if self.weight is None:
            self.weight = np.ones(self.y.shape, np.uint8)
        if self.weight.dtype == np.uint8 and bool(((wanted != 0) & (wanted != 1)).any()):
            self.weight = self.weight.astype(np.float32)
        return self.weight

    def _widen(self, width: int) -> None:
        gap = ((0, 0), (0, width - self.y.shape[1]))
        weight = np.ones(self.y.shape, np.uint8) if self.weight is None else self.weight
        self.y, self.weight = np.pad(self.y, gap), np.pad(weight, gap)
