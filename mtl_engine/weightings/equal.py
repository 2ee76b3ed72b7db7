"""Every row counts the same, whatever its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtl_engine.types import Array, Json
from mtl_engine.weightings.base import Weighting


class Equal(Weighting):
    """Factor 1 for every task. Kurin et al. 2022 (arXiv 2201.04122) find it hard to beat when tuned."""

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        return dict.fromkeys(losses, 1.0)

    def remove_task(self, task: str) -> None:
        """Nothing is kept about a task."""

    def state(self) -> tuple[Json, dict[str, Array]]:
        return {}, {}

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Nothing is kept, so there is nothing to load."""
