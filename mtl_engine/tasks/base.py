"""What every task kind provides; one instance serves one task and owns its vocabulary or statistics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl_engine.calibration import AS_TRAINED, Bins, Calibration
from mtl_engine.errors import BadRows
from mtl_engine.losses import Known, by_autograd
from mtl_engine.paired import RowErrors
from mtl_engine.types import Array, Json, Target

Scores = dict[str, float | None]
"""Metrics by name. None: not defined on these rows, or no finite number; scores are JSON, which has no NaN."""


class TaskType(ABC):
    """A kind of objective; `name` is the task it serves."""

    name: str

    primary: ClassVar[str]  # the metric in 0..1 that stands for the task in the accuracy matrix
    stored_dtype: ClassVar[torch.dtype] = torch.float16  # of outputs kept in replay
    y_dtype: ClassVar[type[np.generic]]  # of labels in a batch on the device
    later: ClassVar[frozenset[str]] = frozenset()  # arrays of `state` that older states lack

    def gain(self, width: int) -> float:
        """The factor on the outputs of a head that reads `width` features."""
        return 1.0

    @abstractmethod
    def needed(self, target: Target, columns: int = 0) -> int:
        """How many columns the head, which has `columns`, needs to be trained on these rows; a label that no trained row had needs none."""

    @abstractmethod
    def check(
        self, y: Any, mask: Any, weight: Any, n: int, *, closed: bool = False
    ) -> tuple[Target, list[int | str]]:
        """Labels of `n` rows as columns, and labels seen for the first time; raises BadRows and changes nothing.

        With `closed` (scoring) an unknown label becomes column -1 instead of a new one.
        """

    def admit(self, target: Target, fresh: Sequence[int | str]) -> None:  # noqa: B027  (only some kinds learn from accepted labels)
        """Take over what accepted labels decide: new columns, the number of columns."""

    @abstractmethod
    def observe(self, target: Target) -> None:
        """Running statistics of stream rows, before their loss is computed."""

    @abstractmethod
    def loss(
        self, z_BC: Tensor, y: Tensor, weight: Tensor | None, shift_C: Tensor | None = None
    ) -> Tensor: ...

    def loss_by_hand(
        self,
        z_BC: Tensor,
        y: Tensor,
        weight: Tensor | None,
        shift_C: Tensor | None = None,
        factor: float = 1.0,
    ) -> Known:
        """factor * the loss of float32 outputs and its derivative; a kind may know a shorter way to them."""
        value, g_BC, *_ = by_autograd(lambda z_BC: self.loss(z_BC, y, weight, shift_C), z_BC)
        return Known(value, g_BC, factor, factor)

    @abstractmethod
    def error(self, z_BC: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """How wrong each row's outputs are, from 0 to 1, for labels in the outputs' units; float or bool [B]."""

    @abstractmethod
    def distil(self, z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
        """Distance from a teacher's outputs, which may have fewer columns."""

    def distil_by_hand(self, z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Known:
        """The distance of float32 outputs and its derivative, in some of the first columns or all."""
        return by_autograd(lambda z_BC: self.distil(z_BC, teacher_BC, temperature), z_BC)

    @abstractmethod
    def null_loss(self) -> float | None:
        """Loss of the best constant predictor on the stream so far; None before any row."""

    @abstractmethod
    def predict(self, z_HC: Tensor) -> Any:
        """Original labels [H], 0/1 [H, C] or values [H, C]."""

    @abstractmethod
    def probabilities(self, z_HC: Tensor) -> Array: ...

    @abstractmethod
    def answers(self, z_BC: Tensor, moved_BC: Tensor) -> dict[str, Tensor]:
        """What an exported graph answers, by name; operations of torch alone. `moved`: outputs as `calibrated` moves them."""

    def calibrated(self, z_HC: Tensor, target: Target, lacks: float) -> Calibration:
        """What makes probabilities of outputs, fitted on held-out rows; `lacks` as in `calibration.fit_softmax`."""
        return AS_TRAINED

    def reliability(
        self, moved_HC: Tensor, target: Target, *, of_stream: bool = False
    ) -> Bins | None:
        """How often what is said to be so is so; None where nothing is said with a probability. `of_stream` as in `scores`."""
        return None

    @abstractmethod
    def scores(self, z_HC: Tensor, target: Target, *, of_stream: bool = False) -> Scores:
        """All metrics on some rows. `of_stream`: they are a sample by class, to be weighted as the stream's classes are."""

    @abstractmethod
    def row_errors(self, z_HC: Tensor, target: Target, metric: str) -> RowErrors:
        """A metric of `scores` row by row, as a sample by class is weighted to the stream."""

    def verdict_metric(self) -> str:
        """The metric by which models of this task are compared now."""
        return self.primary

    def count_held_out(self, target: Target) -> None:  # noqa: B027  (only some kinds count classes)
        """Labels of stream rows that are held out, which no step will `observe`."""

    def raw(self, z_BC: Tensor) -> Tensor:
        """Outputs in units that stay comparable while statistics move; the inverse of `standard`."""
        return z_BC

    def standard(self, raw_BC: Tensor) -> Tensor:
        return raw_BC

    def read(self, z_HC: Tensor, other: TaskType) -> Tensor:
        """Another model's outputs for the same task, `other` being its kind, as if they were this one's."""
        return self.standard(other.raw(z_HC))

    def known(self) -> Json:
        """What can be answered now, as JSON."""
        return {}

    def among(self, z_HC: Tensor, known: Json) -> Tensor:
        """Outputs as if only what was `known` could be answered."""
        return z_HC

    def renamed(self, target: Target, known: Json, now: Json) -> Target:
        """Labels in the columns of one moment's `known` in those of another's; -1 = not known then."""
        return target

    def group_B(self, target: Target) -> Array:
        """The replay group of each row within the task, int64 [B]; classes where there are classes."""
        return np.zeros(len(target.y), np.int64)

    @abstractmethod
    def state(self) -> tuple[Json, dict[str, Array]]: ...

    @abstractmethod
    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None: ...


def finite(metrics: Mapping[str, float | None]) -> Scores:
    """The metrics, with None for those that are no finite number."""
    return {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in metrics.items()
    }


def present(task: str, mask: Any, shape: tuple[int, ...]) -> Array | None:
    """The mask as bool of `shape` (or of one value a row, widened); None = every label is there."""
    if mask is None:
        return None
    try:
        found = np.asarray(mask)
    except ValueError as error:
        raise BadRows(
            "wrong_mask", f"mask of {task}: {error}; allowed are 0 and 1 of shape {shape}"
        ) from error
    if found.shape == shape[:1] and len(shape) == 2:
        found = np.broadcast_to(found[:, None], shape)
    if (
        found.shape != shape
        or found.dtype.kind not in "biuf"
        or not bool(((found == 0) | (found == 1)).all())
    ):
        raise BadRows(
            "wrong_mask",
            f"mask of {task} is {found.dtype} {found.shape}: allowed are 0 and 1 of shape {shape}",
        )
    return found.astype(np.bool_)


def weights(task: str, present_: Array | None, weight: Any, shape: tuple[int, ...]) -> Array | None:
    """Mask and weights in one float32 array of `shape`; None = all ones."""
    if weight is None:
        return None if present_ is None or bool(present_.all()) else present_.astype(np.float32)
    try:
        found = np.asarray(weight, np.float32)
    except (TypeError, ValueError) as error:
        raise BadRows(
            "bad_weight", f"weight of {task}: {error}; allowed are numbers of shape {shape}"
        ) from error
    if found.shape == shape[:1] and len(shape) == 2:
        found = np.broadcast_to(found[:, None], shape)
    if found.shape != shape or not bool((np.isfinite(found) & (found >= 0)).all()):
        raise BadRows(
            "bad_weight",
            f"weight of {task} has shape {found.shape}: allowed are finite numbers >= 0 of shape {shape}",
        )
    return np.ascontiguousarray(found if present_ is None else found * present_)


def matrix(task: str, y: Any, n: int, width: int, what: str) -> tuple[Array, Array | None]:
    """Numeric labels as float64 [n, width] (`width` 0 = as they come), and where a list did not say None."""
    given: Array | None = None
    try:
        found: Array = np.asarray(y)
        if found.dtype == object:
            given = np.array([value is not None for value in found.flat]).reshape(found.shape)
            found = np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise BadRows("wrong_dtype", f"labels of {task}: {error}; allowed is {what}") from error
    if found.dtype.kind not in "biuf":
        raise BadRows(
            "label_for_regression" if what == "numbers" else "wrong_dtype",
            f"labels of {task} are {found.dtype}: allowed is {what}",
        )
    if found.ndim == 1 and width in (0, 1):
        found, given = found[:, None], None if given is None else given[:, None]
    if found.ndim != 2:
        raise BadRows(
            "wrong_rank", f"labels of {task} have {found.ndim} axes: allowed are 2 (rows, columns)"
        )
    if len(found) != n:
        raise BadRows(
            "length_mismatch", f"{len(found)} labels of {task} for {n} rows: allowed is one a row"
        )
    if width and found.shape[1] != width:
        raise BadRows(
            "wrong_shape", f"labels of {task} have {found.shape[1]} columns: allowed are {width}"
        )
    return found.astype(np.float64), given


def both(a: Array | None, b: Array | None) -> Array | None:
    """Where both masks allow; None allows everything."""
    if a is None or b is None:
        return b if a is None else a
    return a & b
