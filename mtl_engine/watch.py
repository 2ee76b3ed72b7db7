"""One task's windows over its stream, and the alarm they raise: what `drift` looks at, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine import features
from mtl_engine.adwin import Cuts, Window
from mtl_engine.features import BITS, FEATURES, RandomFeatures
from mtl_engine.types import Array, Json, Rows, Target

if TYPE_CHECKING:
    from mtl_engine.strategies.base import TaskStep
    from mtl_engine.tasks.base import TaskType

BLOCK = 512  # rows that enter a window together
ERRORS_STRICTER = 50.0
_FIT_ROWS = 384  # labelled rows that B is fitted to
_RIDGE = 0.1
_NONE = np.zeros(0, np.float32)


@dataclass(slots=True)
class Seen:
    """What errors are computed from, for the stream rows of one step and others after them; no graph is kept alive."""

    kind: TaskType
    z_BC: Tensor
    y: Tensor  # in the units of z
    weight: Tensor | None
    num_stream: int

    def ones(self) -> Tensor:
        return torch.ones_like(self.y, dtype=torch.float32) if self.weight is None else self.weight

    @classmethod
    def of(cls, step: TaskStep) -> Seen:
        """Labels in the units that the task has now: what is kept is a function of this step alone."""
        y = step.kind.standard(step.y)
        return cls(step.kind, step.z_BC.detach(), y, step.weight, step.num_stream)


def errors(found: Sequence[Seen]) -> tuple[Array, Array | None]:
    """How wrong each stream row of some steps was, float32 [B], and whether it has a label, None = all.

    Read from the device only here, once for many steps, whose outputs have equally many columns.
    """
    rows = [one.num_stream for one in found]
    z_BC, y = _joined([one.z_BC for one in found], rows), _joined([one.y for one in found], rows)
    if all(one.weight is None for one in found):
        return found[0].kind.error(z_BC, y, None).cpu().numpy().astype(np.float32), None
    weight = _joined([one.ones() for one in found], rows)
    labelled_B = weight > 0 if weight.ndim == 1 else (weight > 0).any(1)
    error_B = found[0].kind.error(z_BC, y, weight).cpu().numpy().astype(np.float32)
    return error_B, labelled_B.cpu().numpy()


def _joined(columns: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """The first rows of each. On CPU by numpy, whose small calls cost a fraction of torch's; it knows no bfloat16."""
    if columns[0].is_cpu and columns[0].dtype != torch.bfloat16:
        parts = [column.numpy()[:n] for column, n in zip(columns, rows, strict=True)]
        return torch.from_numpy(np.concatenate(parts))
    return torch.cat([column[:n] for column, n in zip(columns, rows, strict=True)])


class Watch:
    """One task's windows since its last phase began, and the alarm that they raised.

    Bound: the windows, the rows and outputs of the steps that make up a block, and two numbers for each value looked at.
    """

    def __init__(self, delta: float, seed: int) -> None:
        self._seed = seed
        self.columns = 0  # of the head; another number is another phase
        self.alarm: Json | None = None
        self.errors = Window(1, delta / ERRORS_STRICTER)
        self.inputs = Window(FEATURES, delta)
        self.labels = Window(BITS, delta)
        self._outputs: list[Seen] = []  # that wait for their block
        self._error_B = _NONE  # of such steps before a restart
        self._num_errors = 0
        self._rows: list[Rows] = []  # that wait for theirs, with the one target ""
        self._raw_BX: Array | None = None  # of such rows before a restart
        self._num_rows = 0
        self._features: RandomFeatures | None = None  # until the first block has told its units
        self._gram_VV = np.zeros((1 + FEATURES, 1 + FEATURES))
        self._cross_VQ = np.zeros((1 + FEATURES, BITS))
        self._map_VQ: Array | None = None  # B; None until fitted

    def see_outputs(self, step: TaskStep) -> None:
        """What the model answered for stream rows that it has not been trained on."""
        self._outputs.append(Seen.of(step))
        self._num_errors += len(step.stream_y)
        if self._num_errors >= BLOCK:
            self.errors.add(self._waiting_errors().astype(np.float64)[:, None])
            self._outputs, self._error_B, self._num_errors = [], _NONE, 0
            self._judge_errors()

    def see_rows(self, rows: Rows, target: Target) -> None:
        """Rows of the task, labelled or not."""
        self._rows.append(features.some(rows, target))
        self._num_rows += len(self._rows[-1])
        if self._num_rows >= BLOCK:
            raw_BX = self._waiting_rows()
            self._rows, self._raw_BX, self._num_rows = [], None, 0
            self._see_block(raw_BX[:, :-1], raw_BX[:, -1] > 0)

    def _waiting_errors(self) -> Array:
        """float32 [B], of labelled rows."""
        if not self._outputs:
            return self._error_B
        error_B, labelled_B = errors(self._outputs)
        error_B = error_B if labelled_B is None else error_B[labelled_B]
        return np.concatenate([self._error_B, error_B])

    def _waiting_rows(self) -> Array:
        found = [] if self._raw_BX is None else [self._raw_BX]
        if self._rows:
            found.append(features.sample(Rows.concat(self._rows)))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _see_block(self, raw_BX: Array, labelled_B: Array) -> None:
        if self._features is None:
            self._features = RandomFeatures(features.units(raw_BX), self._seed)
        u_BK, code_BQ = self._features.of(raw_BX)
        self.inputs.add(u_BK)
        self._judge(self.inputs, "inputs")
        if labelled_B.any():
            u_BV = np.hstack([np.ones((len(u_BK), 1)), u_BK])
            self._see_labels(u_BV[labelled_B], code_BQ[labelled_B])

    def _see_labels(self, u_BV: Array, code_BQ: Array) -> None:
        if self._map_VQ is not None:
            self.labels.add(code_BQ - u_BV @ self._map_VQ)
            self._judge(self.labels, "labels")
            return
        self._gram_VV += u_BV.T @ u_BV
        self._cross_VQ += u_BV.T @ code_BQ
        if self._gram_VV[0, 0] >= _FIT_ROWS:
            ridge_VV = _RIDGE * np.eye(1 + FEATURES)
            self._map_VQ = np.linalg.solve(self._gram_VV + ridge_VV, self._cross_VQ)

    def _judge_errors(self) -> None:
        n0_K, moved_KF, allowed_KF = self._judge(self.errors, "errors", rise_only=True)
        fell_K = moved_KF[:, 0] < -allowed_KF[:, 0]
        if fell_K.any():
            self.errors.drop(float(n0_K[fell_K].max()))

    def _judge(self, window: Window, signal: str, *, rise_only: bool = False) -> Cuts:
        n0_K, moved_KF, allowed_KF = cuts = window.cuts()
        over_KF = (moved_KF if rise_only else np.abs(moved_KF)) > allowed_KF
        if self.alarm is None and over_KF.any():
            over_KF = np.where(over_KF, np.abs(moved_KF) / np.maximum(allowed_KF, 1e-12), 0.0)
            cut, mean = np.unravel_index(int(over_KF.argmax()), over_KF.shape)
            self.alarm = {
                "signal": signal,
                "moved": float(moved_KF[cut, mean]),
                "allowed": float(allowed_KF[cut, mean]),
                "rows_before": int(n0_K[cut]),
                "rows_after": int(len(window) - n0_K[cut]),
            }
        return cuts

    def state(self) -> tuple[Json, dict[str, Array]]:
        arrays: dict[str, Array] = {
            "errors": self.errors.state(), "inputs": self.inputs.state(), "labels": self.labels.state(),
            "gram_VV": self._gram_VV, "cross_VQ": self._cross_VQ,
            "error_B": self._waiting_errors(),
        }  # fmt: skip
        if self._features is not None:
            arrays["units_2X"] = self._features.units_2X
        if self._map_VQ is not None:
            arrays["map_VQ"] = self._map_VQ
        if self._num_rows:
            arrays["rows"] = self._waiting_rows()
        return {"columns": self.columns, "alarm": self.alarm}, arrays

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.columns, self.alarm = int(meta["columns"]), meta["alarm"]
        for window, name in (
            (self.errors, "errors"),
            (self.inputs, "inputs"),
            (self.labels, "labels"),
        ):
            window.load_state(arrays[name])
        self._gram_VV, self._cross_VQ = np.array(arrays["gram_VV"]), np.array(arrays["cross_VQ"])
        self._error_B, self._outputs = arrays["error_B"], []
        self._num_errors = len(self._error_B)
        units_2X, self._map_VQ = arrays.get("units_2X"), arrays.get("map_VQ")
        self._features = None if units_2X is None else RandomFeatures(units_2X, self._seed)
        self._raw_BX, self._rows = arrays.get("rows"), []
        self._num_rows = 0 if self._raw_BX is None else len(self._raw_BX)
