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
        is_array = isinstance(value, np.ndarray)
        self._kept[name] = np.array(value) if is_array else value.detach().cpu().clone()
        return self._kept[name]

    def keep_only(self, names: Set[str]) -> None:
        """Give back the memory of all other names."""
        for name in self._kept.keys() - names:
            del self._kept[name]
