"""Equal room for every task, and inside a task for every class, however rare."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mtl_engine.policies.base import TASK_SHIFT, Policy
from mtl_engine.types import Array


class Balanced(Policy):
    """A reservoir for each (task, class), as in Chrysakis and Moens 2020 ("Online continual learning from
    imbalanced data") but with fixed equal quotas, so that every group stays an exact uniform sample."""

    mixes: ClassVar[bool] = False

    def key_B(self, task_B: Array | int, class_B: Array) -> Array:
        return (task_B << TASK_SHIFT) + class_B

    def quotas(self, key_G: Array, capacity: int) -> Array:
        quota_G = np.zeros(len(key_G), np.int64)
        tasks, number_G = np.unique(key_G >> TASK_SHIFT, return_inverse=True)
        for number, room in enumerate(_shared(capacity, len(tasks))):
            mine = np.flatnonzero(number_G == number)
            quota_G[mine] = _shared(int(room), len(mine))
        return quota_G


def _shared(total: int, parts: int) -> Array:
    """`total` in equal whole parts, the first ones larger by one where it does not divide."""
    shares = np.full(parts, total // max(parts, 1), np.int64)
    shares[: total - int(shares.sum())] += 1
    return shares
