"""What every weighting provides; it never waits for the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtl_engine.types import Array, Json


class Weighting(ABC):
    """Factors of the tasks in a step; they are multiplied with loss_weight and the task's part of the rows."""

    @abstractmethod
    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        """A factor for every task in `losses`, whatever the others are and in whatever order."""

    @abstractmethod
    def remove_task(self, task: str) -> None: ...

    @abstractmethod
    def state(self) -> tuple[Json, dict[str, Array]]: ...

    @abstractmethod
    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None: ...
