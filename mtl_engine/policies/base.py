"""What a policy answers; the mechanism that places rows (`slots`) is the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from mtl_engine.types import Array

TASK_SHIFT = 32  # a key is (task number << 32) + class


class Policy(ABC):
    """Splits the rows of a replay table into groups, each a uniform sample of what it was offered.

    Where a group holds rows of one task only, `mixes` is False and the upper half of its key is the task's number.
    """

    mixes: ClassVar[bool] = True

    @abstractmethod
    def key_B(self, task_B: Array | int, class_B: Array) -> Array:
        """The group of each row, int64 [B], from the number of its task and its class."""

    @abstractmethod
    def quotas(self, key_G: Array, capacity: int) -> Array:
        """Slots of each group in order of first appearance, int64 [G], together at most `capacity`."""
