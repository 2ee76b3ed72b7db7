"""Memory for copies that is kept from one cut to the next, since fresh pages cost more than the copy itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Set

Array = np.ndarray | torch.Tensor


class Arena:
    """Copies by name, each in the memory of the copy before it. Bound: one copy of every name kept."""

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def copy(self, name: str, value: Array) -> Array:
        """A copy that stays as it is until the same name is copied again; a read-only array is its own copy."""
        if isinstance(value, np.ndarray) and not value.flags.writeable:
            return value
        kept = self._kept.get(name)
        if kept is not None and (kept.shape, kept.dtype) == (value.shape, value.dtype):
            torch.as_tensor(kept).copy_(torch.as_tensor(value))
            return kept
        self._kept[name] = _fresh(value)
        return self._kept[name]

    def keep_only(self, names: Set[str]) -> None:
        """Give back the memory of all other names."""
        for name in self._kept.keys() - names:
            del self._kept[name]


class Pool:
    """Copies of what changes now here, now there: any memory of the same shape and dtype serves for any name.

    Bound: what the largest of the last cuts took. What a cut leaves unused is given back by halves, so that a rare
    large cut does not hold its memory and a large one among small ones does not start from nothing.
    """

    def __init__(self) -> None:
        self._free: dict[object, list[Array]] = {}
        self._lent: dict[object, list[Array]] = {}

    def copy(self, value: Array) -> Array:
        """A copy that stays as it is until `reclaim`."""
        key = (type(value), tuple(value.shape), value.dtype)
        free = self._free.get(key)
        if free:
            found = free.pop()
            torch.as_tensor(found).copy_(torch.as_tensor(value))
        else:
            found = _fresh(value)
        self._lent.setdefault(key, []).append(found)
        return found

    def reclaim(self) -> None:
        """Nobody reads the copies any more."""
        self._free = {key: free[: len(free) // 2] for key, free in self._free.items()}
        for key, lent in self._lent.items():
            self._free.setdefault(key, []).extend(lent)
        self._free = {key: free for key, free in self._free.items() if free}
        self._lent = {}


def _fresh(value: Array) -> Array:
    return np.array(value) if isinstance(value, np.ndarray) else value.detach().cpu().clone()
