"""Real-valued targets, standardised by running statistics: squared error, R2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl_engine import losses, running
from mtl_engine.errors import BadRows
from mtl_engine.paired import RowErrors
from mtl_engine.tasks.base import Scores, TaskType, both, finite, matrix, present, weights
from mtl_engine.types import LARGEST, Array, Json, Target, TaskSpec
from mtl_engine.vocabulary import is_list


class Regression(TaskType):
    """The head predicts (y - mean) / deviation; mean and deviation follow the stream."""

    primary: ClassVar[str] = "r2"
    stored_dtype: ClassVar[torch.dtype] = torch.float32
    y_dtype: ClassVar[type[np.generic]] = np.float32

    def __init__(self, spec: TaskSpec) -> None:
        self.name = spec.name
        self.targets = spec.targets
        self.stats_3C = np.zeros((3, spec.targets))  # count, mean, sum of squared deviations
        self._known: tuple[Array, Tensor] | None = None  # statistics, and the units they give

    def needed(self, target: Target, columns: int = 0) -> int:
        return self.targets

    def gain(self, width: int) -> float:
        """4 / sqrt(width). The squared error's curvature is gain^2 * |features|^2, and does not fall as errors
        do: at 1, SGD diverges above a step size of about 2 / width, where classifications need far more."""
        return 4.0 / width**0.5

    def check(
        self, y: Any, mask: Any, weight: Any, n: int, *, closed: bool = False
    ) -> tuple[Target, list[int | str]]:
        if y is None:
            return Target(
                np.zeros((n, self.targets), np.float32), np.zeros((n, self.targets), np.float32)
            ), []
        if is_list(y) and any(isinstance(value, str) for value in y):
            raise BadRows(
                "label_for_regression", f"labels of {self.name} are strings: allowed are numbers"
            )
        with np.errstate(over="ignore"):
            y_BC, given_BC = matrix(self.name, y, n, self.targets, "numbers")
            y_BC = y_BC.astype(np.float32)
        present_BC = both(present(self.name, mask, y_BC.shape), given_BC)
        if present_BC is not None:
            y_BC = np.where(present_BC, y_BC, np.float32(0))
        if not (np.abs(y_BC) <= LARGEST).all():
            raise BadRows(
                "nan_label",
                f"a label of {self.name} is NaN or beyond {LARGEST:g}: use mask for missing labels",
            )
        return Target(y_BC, weights(self.name, present_BC, weight, y_BC.shape)), []

    def observe(self, target: Target) -> None:
        self.stats_3C = running.updated(self.stats_3C, target.y, target.ones() > 0)

    def loss(
        self, z_BC: Tensor, y: Tensor, weight: Tensor | None, shift_C: Tensor | None = None
    ) -> Tensor:
        return losses.squared_error(z_BC, self.standard(y), weight)

    def error(self, z_BC: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """e / (1 + e) of the squared error e in standardised units, averaged over the labelled columns."""
        error_BC = (z_BC.float() - y) ** 2
        given_BC = torch.ones_like(error_BC) if weight is None else (weight > 0).float()
        error_B = (error_BC * given_BC).sum(1) / given_BC.sum(1).clamp(min=1)
        return error_B / (1 + error_B)

    def distil(self, z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
        return losses.squared_error(z_BC[:, : teacher_BC.shape[1]], teacher_BC, None)

    def null_loss(self) -> float | None:
        """The variance in standardised units: 1, or 0 for a target that never varied."""
        count_C, _, m2_C = self.stats_3C
        return float((m2_C[count_C > 0] > 0).mean()) if (count_C > 0).any() else None

    def predict(self, z_HC: Tensor) -> Any:
        return self.raw(z_HC).numpy()

    def probabilities(self, z_HC: Tensor) -> Array:
        raise BadRows(
            "label_for_regression",
            f"{self.name} is a regression and has no probabilities: use predict",
        )

    def answers(self, z_BC: Tensor, moved_BC: Tensor) -> dict[str, Tensor]:
        return {"values": self.raw(z_BC)}

    def scores(self, z_HC: Tensor, target: Target, *, of_stream: bool = False) -> Scores:
        """R2 is not defined where no column has two different values."""
        given_HC = target.ones() > 0
        if not given_HC.any():
            return {"r2": None, "mae": None, "rmse": None}
        y_HC = target.y.astype(np.float64)  # in which the mean of equal values is that value
        error_HC = np.where(given_HC, self.raw(z_HC).numpy() - y_HC, 0.0)
        mean_C = np.where(given_HC, y_HC, 0.0).sum(0) / np.maximum(given_HC.sum(0), 1)
        spread = float((np.where(given_HC, y_HC - mean_C, 0.0) ** 2).sum())
        squares, count = float((error_HC**2).sum()), float(given_HC.sum())
        return finite(
            {
                "r2": 1 - squares / spread if spread > 0 else None,
                "mae": float(np.abs(error_HC).sum() / count),
                "rmse": (squares / count) ** 0.5,
            }
        )

    def row_errors(self, z_HC: Tensor, target: Target, metric: str) -> RowErrors:
        """`r2`: the squared error, and the squared distance from the mean label; outputs that are no numbers are `LARGEST` off."""
        given_HC = target.ones() > 0
        y_HC = target.y.astype(np.float64)
        mean_C = np.where(given_HC, y_HC, 0.0).sum(0) / np.maximum(given_HC.sum(0), 1)
        size_H = np.where(given_HC, (y_HC - mean_C) ** 2, 0.0).sum(1)
        off_HC = np.nan_to_num(
            self.raw(z_HC).numpy() - y_HC, nan=LARGEST, posinf=LARGEST, neginf=LARGEST
        )
        error_H = np.where(given_HC, off_HC**2, 0.0).sum(1)
        return RowErrors(error_H, size_H, target.labelled().astype(np.float64))

    def raw(self, z_BC: Tensor) -> Tensor:
        mean_C, deviation_C = self._units(z_BC)
        return z_BC.float() * deviation_C + mean_C

    def standard(self, raw_BC: Tensor) -> Tensor:
        mean_C, deviation_C = self._units(raw_BC)
        return (raw_BC - mean_C) / deviation_C

    def _units(self, like: Tensor) -> tuple[Tensor, Tensor]:
        stats_3C, known = self.stats_3C, self._known
        if known is None or known[0] is not stats_3C or known[1].device != like.device:
            units_2C = np.stack([stats_3C[1], running.deviation(stats_3C)]).astype(np.float32)
            known = self._known = stats_3C, torch.from_numpy(units_2C).to(like.device)
        return known[1][0], known[1][1]

    def state(self) -> tuple[Json, dict[str, Array]]:
        return {}, {"stats_3C": self.stats_3C}

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.stats_3C = np.array(arrays["stats_3C"])
