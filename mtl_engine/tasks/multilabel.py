"""Several yes-or-no labels a row: sigmoid cross-entropy, micro-averaged F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl_engine import losses
from mtl_engine.calibration import Bins, Calibration, fit_sigmoid
from mtl_engine.errors import BadRows
from mtl_engine.paired import RowErrors
from mtl_engine.tasks.base import Scores, TaskType, both, matrix, present, weights
from mtl_engine.types import Array, Json, Target, TaskSpec


class Multilabel(TaskType):
    """Columns are fixed by `classes`, by `targets` when above 1, or else by the first labelled rows."""

    primary: ClassVar[str] = "f1"
    y_dtype: ClassVar[type[np.generic]] = np.float32

    def __init__(self, spec: TaskSpec) -> None:
        self.name = spec.name
        self.max_classes = spec.max_classes
        self._width = len(spec.classes) or (spec.targets if spec.targets > 1 else 0)
        # Labels and positive labels of a column, each counted by its part of its row, as in the loss.
        self.count_2C = np.zeros((2, self._width))

    def needed(self, target: Target, columns: int = 0) -> int:
        return self._width

    def check(
        self, y: Any, mask: Any, weight: Any, n: int, *, closed: bool = False
    ) -> tuple[Target, list[int | str]]:
        if y is None:
            return Target(
                np.zeros((n, self._width), np.uint8), np.zeros((n, self._width), np.float32)
            ), []
        y_BC, given_BC = matrix(self.name, y, n, self._width, "0 or 1 in every column")
        if y_BC.shape[1] > self.max_classes:
            raise BadRows(
                "too_many_classes",
                f"{self.name} has {y_BC.shape[1]} columns: allowed are {self.max_classes}; raise max_classes of the task",
            )
        present_BC = both(present(self.name, mask, y_BC.shape), given_BC)
        y_BC = y_BC if present_BC is None else np.where(present_BC, y_BC, 0)
        if np.isnan(y_BC).any():
            raise BadRows(
                "nan_label", f"a label of {self.name} is NaN: use mask for missing labels"
            )
        if bool((y_BC < 0).any()):
            raise BadRows(
                "negative_label",
                f"a label of {self.name} is negative: allowed are 0 and 1; use mask for missing labels",
            )
        if bool(((y_BC != 0) & (y_BC != 1)).any()):
            raise BadRows(
                "label_out_of_range",
                f"a label of {self.name} is {y_BC.max():g}: allowed are 0 and 1",
            )
        return Target(y_BC.astype(np.uint8), weights(self.name, present_BC, weight, y_BC.shape)), []

    def admit(self, target: Target, fresh: Sequence[int | str]) -> None:
        if not self._width:
            self._width = target.y.shape[1]
            self.count_2C = np.zeros((2, self._width))

    def observe(self, target: Target) -> None:
        if target.y.shape[1] == self._width:
            part_BC = (target.ones() > 0).astype(np.float64)
            part_BC /= np.maximum(part_BC.sum(1, keepdims=True), 1)
            self.count_2C += np.stack([part_BC.sum(0), (target.y * part_BC).sum(0)])

    def loss(
        self, z_BC: Tensor, y: Tensor, weight: Tensor | None, shift_C: Tensor | None = None
    ) -> Tensor:
        return losses.binary_cross_entropy(z_BC, y, weight)

    def error(self, z_BC: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """The part of the labelled columns that is wrong."""
        wrong_BC = ((z_BC > 0) != (y > 0.5)).float()
        if weight is None:
            return wrong_BC.mean(1)
        given_BC = (weight > 0).float()
        return (wrong_BC * given_BC).sum(1) / given_BC.sum(1).clamp(min=1)

    def distil(self, z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
        return losses.soft_binary_cross_entropy(z_BC, teacher_BC, temperature)

    def null_loss(self) -> float | None:
        """Entropy of each column's frequency, weighted by the column's part of the loss."""
        total_C, ones_C = (
            self.count_2C[:, self.count_2C[0] > 0] if self._width else np.zeros((2, 0))
        )
        if not total_C.size:
            return None
        p_C = np.clip(ones_C / total_C, 1e-12, 1 - 1e-12)
        entropy_C = -(p_C * np.log(p_C) + (1 - p_C) * np.log(1 - p_C))
        return float(np.average(entropy_C, weights=total_C))

    def predict(self, z_HC: Tensor) -> Any:
        return (z_HC > 0).numpy().astype(np.uint8)

    def probabilities(self, z_HC: Tensor) -> Array:
        return torch.sigmoid(z_HC.float()).numpy()

    def answers(self, z_BC: Tensor, moved_BC: Tensor) -> dict[str, Tensor]:
        return {"logits": z_BC, "probabilities": torch.sigmoid(moved_BC)}

    def calibrated(self, z_HC: Tensor, target: Target, lacks: float) -> Calibration:
        """Columns have the stream's rates, being neither adjusted while training nor sampled by class."""
        return fit_sigmoid(z_HC.numpy(), target.y, self._as_stream(target))

    def reliability(
        self, moved_HC: Tensor, target: Target, *, of_stream: bool = False
    ) -> Bins | None:
        """Of every label of every row."""
        p_HC = torch.sigmoid(moved_HC).numpy()
        weight_HC = self._as_stream(target) if of_stream else target.ones() > 0
        return Bins.of(p_HC, target.y == 1, weight_HC)

    def _as_stream(self, target: Target) -> Array:
        """Weights of labels with which a column's rate among the rows is its rate in the stream, which is known better."""
        given_HC = (target.ones() > 0).astype(np.float64)
        total_C, yes_C = given_HC.sum(0), (given_HC * (target.y == 1)).sum(0)
        stream_C = (self.count_2C[1] + 0.5) / (self.count_2C[0] + 1)
        has_both_C = (yes_C > 0) & (yes_C < total_C) & (self.count_2C[0] > 0)
        rate_C = np.where(has_both_C, yes_C / np.maximum(total_C, 1), 0.5)
        stream_C = np.where(has_both_C, stream_C, 0.5)
        return given_HC * np.where(target.y == 1, stream_C / rate_C, (1 - stream_C) / (1 - rate_C))

    def scores(self, z_HC: Tensor, target: Target, *, of_stream: bool = False) -> Scores:
        """F1 and accuracy over all labels, and the mean of the columns' recalls."""
        given_HC = target.ones() > 0
        if not given_HC.any():
            return dict.fromkeys(("f1", "accuracy", "macro_recall"))
        yes_HC, is_HC = (z_HC > 0).numpy() & given_HC, (target.y == 1) & given_HC
        hits_C, is_C = (yes_HC & is_HC).sum(0), is_HC.sum(0)
        all_ = float(yes_HC.sum() + is_C.sum())
        recall_C = hits_C[is_C > 0] / is_C[is_C > 0]
        return {
            "f1": 2 * float(hits_C.sum()) / all_ if all_ else 1.0,
            "accuracy": float(((yes_HC == is_HC) & given_HC).sum() / given_HC.sum()),
            "macro_recall": float(recall_C.mean()) if recall_C.size else None,
        }

    def row_errors(self, z_HC: Tensor, target: Target, metric: str) -> RowErrors:
        """`f1`: 1 - F1 is the ratio of wrong answers to the yeses of labels and answers."""
        given_HC = target.ones() > 0
        yes_HC, is_HC = (z_HC > 0).numpy() & given_HC, (target.y == 1) & given_HC
        wrong_H = (yes_HC != is_HC).sum(1).astype(np.float64)
        yes_H = yes_HC.sum(1).astype(np.float64)
        return RowErrors(wrong_H, is_HC.sum(1) + yes_H, target.labelled().astype(np.float64), yes_H)

    def state(self) -> tuple[Json, dict[str, Array]]:
        return {"width": self._width}, {"count_2C": self.count_2C}

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self._width = int(meta["width"])
        self.count_2C = np.array(arrays["count_2C"])
