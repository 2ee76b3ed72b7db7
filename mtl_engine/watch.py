"""One task's windows over its stream, and the alarm they raise: what `drift` looks at, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_engine import features
from mtl_engine.adwin import Window
from mtl_engine.features import BITS, FEATURES, RandomFeatures
from mtl_engine.types import Array, Json, Rows, Target

BLOCK = 128  # rows that enter a window together
ERRORS_STRICTER = 50.0
_FIT_ROWS = 384  # labelled rows that B is fitted to
_RIDGE = 0.1


class Watch:
    """One task's windows since its last phase began, and the alarm that they raised.

    Bound: the windows, two steps' rows and `BLOCK` more, and two numbers for each of at most `_WIDTH` inputs.
    """

    def __init__(self, delta: float, seed: int) -> None:
        self._seed = seed
        self.columns = 0  # of the head; another number is another phase
        self.alarm: Json | None = None
        self.errors = Window(1, delta / ERRORS_STRICTER)
        self.inputs = Window(FEATURES, delta)
        self.labels = Window(BITS, delta)
        self._error_B: list[Array] = []  # of rows that wait for their block
        self._rows: list[tuple[Rows, Target]] = []  # steps that wait for theirs
        self._restored_BX: Array | None = None  # what was kept of such steps before a restart
        self._num_rows = 0
        self._features: RandomFeatures | None = (
            None  # None until the first block has told its units
        )
        self._gram_VV = np.zeros((1 + FEATURES, 1 + FEATURES))
        self._cross_VQ = np.zeros((1 + FEATURES, BITS))
        self._map_VQ: Array | None = None  # B; None until fitted

    def see_errors(self, error_B: Array) -> None:
        """How wrong the model was on labelled rows that it has not been trained on."""
        self._error_B.append(error_B)
        if sum(map(len, self._error_B)) >= BLOCK:
            self.errors.add(np.concatenate(self._error_B).astype(np.float64)[:, None])
            self._error_B = []
            self._judge_errors()

    def see_rows(self, rows: Rows, target: Target) -> None:
        """Rows of the task, labelled or not."""
        self._rows.append((rows, target))
        self._num_rows += -(-len(rows) // features.stride(rows))
        if self._num_rows >= BLOCK:
            raw_BX = self._waiting()
            self._rows, self._restored_BX, self._num_rows = [], None, 0
            self._see_block(raw_BX[:, :-1], raw_BX[:, -1] > 0)

    def _waiting(self) -> Array:
        found = [] if self._restored_BX is None else [self._restored_BX]
        return np.concatenate(
            found + [features.sample(rows, target) for rows, target in self._rows]
        )

    def _see_block(self, raw_BX: Array, labelled_B: Array) -> None:
        if self._features is None:
            self._features = RandomFeatures(features.units(raw_BX), self._seed)
            return
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
        self._judge(self.errors, "errors", rise_only=True)
        n0_K, moved_KF, allowed_KF = self.errors.cuts()
        fell_K = moved_KF[:, 0] < -allowed_KF[:, 0]
        if fell_K.any():
            self.errors.drop(float(n0_K[fell_K].max()))

    def _judge(self, window: Window, signal: str, *, rise_only: bool = False) -> None:
        n0_K, moved_KF, allowed_KF = window.cuts()
        over_KF = (moved_KF if rise_only else np.abs(moved_KF)) / np.maximum(allowed_KF, 1e-12)
        if self.alarm is None and over_KF.size and over_KF.max() > 1.0:
            cut, mean = np.unravel_index(int(over_KF.argmax()), over_KF.shape)
            self.alarm = {
                "signal": signal,
                "moved": float(moved_KF[cut, mean]),
                "allowed": float(allowed_KF[cut, mean]),
                "rows_before": int(n0_K[cut]),
                "rows_after": int(window.table_KX[:, 1].sum() - n0_K[cut]),
            }

    def state(self) -> tuple[Json, dict[str, Array]]:
        arrays: dict[str, Array] = {
            "errors": self.errors.table_KX, "inputs": self.inputs.table_KX, "labels": self.labels.table_KX,
            "gram_VV": self._gram_VV, "cross_VQ": self._cross_VQ,
            "error_B": np.concatenate([np.zeros(0, np.float32), *self._error_B]),
        }  # fmt: skip
        if self._features is not None:
            arrays["units_2X"] = self._features.units_2X
        if self._map_VQ is not None:
            arrays["map_VQ"] = self._map_VQ
        if self._num_rows:
            arrays["rows"] = self._waiting()
        return {"columns": self.columns, "alarm": self.alarm}, arrays

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.columns, self.alarm = int(meta["columns"]), meta["alarm"]
        for window, name in (
            (self.errors, "errors"),
            (self.inputs, "inputs"),
            (self.labels, "labels"),
        ):
            window.table_KX = np.array(arrays[name])
        self._gram_VV, self._cross_VQ = np.array(arrays["gram_VV"]), np.array(arrays["cross_VQ"])
        self._error_B = [np.array(arrays["error_B"])] if len(arrays["error_B"]) else []
        units_2X, self._map_VQ = arrays.get("units_2X"), arrays.get("map_VQ")
        self._features = None if units_2X is None else RandomFeatures(units_2X, self._seed)
        self._restored_BX, self._rows = arrays.get("rows"), []
        self._num_rows = 0 if self._restored_BX is None else len(self._restored_BX)
