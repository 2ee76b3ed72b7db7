"""One uniform sample of everything: frequent tasks and classes keep most of the memory."""

from __future__ import annotations

import numpy as np

from mtl_engine.policies.base import Policy
from mtl_engine.types import Array


class Reservoir(Policy):
    """Algorithm R (Vitter 1985, "Random sampling with a reservoir"): every row offered is kept with equal chance."""

    def key_B(self, task_B: Array | int, class_B: Array) -> Array:
        return np.zeros(len(class_B), np.int64)

    def quotas(self, key_G: Array, capacity: int) -> Array:
        return np.full(len(key_G), capacity, np.int64)
