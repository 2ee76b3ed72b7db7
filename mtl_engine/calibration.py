"""From outputs to probabilities: a temperature and an offset by class, fitted on held-out rows, and how far off they are.

Outputs are what training asked for, which is not yet a probability: a strategy that adjusts for the classes' shares leaves
these out, a model held to its stored outputs is less sure than it may be, a rare class is misjudged as a whole. So

    p = softmax(z / T + s log(share of the class in the stream) + r * how late the class came + b)

(sigmoid(z / T + r + b) for yes-or-no columns). T, s, r and b minimise the summed log-loss of the rows, each weighted as its
class is in the stream, plus 1/2 of 8 (log T)^2 + h (s - s0)^2 + r^2 / 2 + 4 |b|^2, without which the few rows of a rare
class decide. It says that log T is mostly within 1/3 of 0 and an offset within 1/2, which is what streams had
(docs/methods.md). h is 4, and 100 where it is known that outputs lack all of the log-shares (s0 = 1). Classes that came
late are misjudged together, the first of a stream as the last to -1/2 and 1/2: one number for all of them is found from
fewer rows than an offset for each. A temperature with offsets by class is "bias-corrected temperature scaling"
(Alexandari, Kundaje and Shrikumar 2020, arXiv 1901.06852).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine import rng
from mtl_engine.types import Array, Json

MIN_ROWS = 20  # held-out rows, each counted by its weight, below which nothing is fitted
BINS = 10  # of equal mass, for the calibration error
# How strongly each is held to where it begins: log T; s and b; s where it is known; r; b of yes-or-no columns.
_OF_TEMPERATURE, _OF_OFFSET, _KNOWN, _OF_COMMON, _OF_COLUMN = 8.0, 4.0, 100.0, 0.5, 2.0
_LOG_RANGE = np.log(8.0)  # T is within 1/8 and 8
_STEPS, _HALVINGS = 50, 20
_NUMBERS = 2_000_000  # outputs that are looked at; of more, evenly spaced rows
_DRAWS = 200  # of the bootstrap


@dataclass(frozen=True, slots=True)
class Calibration:
    """Outputs become z / temperature + shift; where there is no shift it is 0."""

    temperature: float = 1.0
    shift_C: Array | None = None  # float64 [C]
    rows: int = 0  # that it was fitted on; 0 = the temperature is 1 because there were too few

    def moved(self, z_BC: Tensor) -> Tensor:
        """Outputs whose softmax or sigmoid are probabilities under the stream's shares, in float32."""
        z_BC = z_BC.float()
        if self.temperature != 1.0:
            z_BC = z_BC / self.temperature
        if self.shift_C is None:
            return z_BC
        return z_BC + torch.from_numpy(self.shift_C.astype(np.float32)).to(z_BC.device)

    def to_dict(self) -> Json:
        shift = None if self.shift_C is None else self.shift_C.tolist()
        return {"temperature": self.temperature, "shift": shift, "rows": self.rows}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Calibration:
        shift = given["shift"]
        shift_C = None if shift is None else np.array(shift, np.float64)
        return cls(float(given["temperature"]), shift_C, int(given["rows"]))


AS_TRAINED = Calibration()
"""Softmax or sigmoid of the outputs as they are: what snapshots answer that say nothing of it."""


def effective(weight_H: Array) -> Array:
    """The weights with the number of equally weighted rows that would tell as much as their sum (Kish 1965)."""
    total = float(weight_H.sum())
    return weight_H * (total / float((weight_H**2).sum())) if total else weight_H


def fit_softmax(
    z_HC: Array, y_H: Array, weight_H: Array, log_share_C: Array, lacks: float
) -> Calibration:
    """For one class a row. `lacks` (s0) is what part of the log-share the strategy leaves out of the outputs."""
    is_known_H = (weight_H > 0) & (y_H >= 0) & (y_H < z_HC.shape[1]) & np.isfinite(z_HC).all(1)
    used_H = _spread(np.flatnonzero(is_known_H), z_HC.shape[1])
    weight_H = effective(weight_H[used_H].astype(np.float64))
    if weight_H.sum() < MIN_ROWS:
        return Calibration(1.0, lacks * log_share_C)
    class_K = np.unique(y_H[used_H])  # the others have no offset of their own
    problem = _Softmax(
        z_HC[used_H].astype(np.float64), y_H[used_H], weight_H, log_share_C, class_K, lacks
    )
    found = _newton(problem.at, problem.start())
    shift_C = found[1:_COMMON] @ problem.common_DC
    shift_C[class_K] += found[_COMMON:]
    return Calibration(float(np.exp(found[0])), shift_C, len(used_H))


def fit_sigmoid(z_HC: Array, y_HC: Array, weight_HC: Array) -> Calibration:
    """For columns of yes or no, each on its own but for the common temperature."""
    is_known_H = (weight_HC > 0).any(1) & np.isfinite(z_HC).all(1)
    used_H = _spread(np.flatnonzero(is_known_H), z_HC.shape[1])
    weight_HC = weight_HC[used_H].astype(np.float64)
    if len(used_H) < MIN_ROWS:
        return AS_TRAINED
    z_HC, y_HC = z_HC[used_H].astype(np.float64), y_HC[used_H].astype(np.float64)

    columns = z_HC.shape[1]
    held = np.concatenate([[_OF_TEMPERATURE, _OF_COMMON], np.full(columns, _OF_COLUMN)])

    def at(v: Array) -> tuple[float, Array]:
        t = np.exp(-v[0])
        a_HC = t * z_HC + v[1] + v[2:]
        p_HC = 0.5 * (1 + np.tanh(0.5 * a_HC))
        loss = float((weight_HC * (np.logaddexp(0.0, a_HC) - y_HC * a_HC)).sum())
        g_HC, h_HC, d_HC = weight_HC * (p_HC - y_HC), weight_HC * p_HC * (1 - p_HC), -t * z_HC
        slope = np.concatenate([[(g_HC * d_HC).sum(), g_HC.sum()], g_HC.sum(0)]) + held * v
        own_C, cross_C = h_HC.sum(0), (h_HC * d_HC).sum(0)
        corner = np.array([[(h_HC * d_HC**2).sum(), cross_C.sum()], [cross_C.sum(), own_C.sum()]])
        step = _bordered(
            corner + np.diag(held[:2]), np.stack([cross_C, own_C]), own_C + held[2:], slope
        )
        return loss + 0.5 * float(held @ v**2), step

    found = _newton(at, np.zeros(2 + columns))
    return Calibration(float(np.exp(found[0])), found[1] + found[2:], len(used_H))


def _bordered(corner_DD: Array, border_DC: Array, diagonal_C: Array, slope: Array) -> Array:
    """The solution of [[corner, border], [border^T, diag]] x = slope, in time that grows with C and not its cube."""
    n = len(corner_DD)
    over_DC = border_DC / diagonal_C
    first = np.linalg.solve(corner_DD - over_DC @ border_DC.T, slope[:n] - over_DC @ slope[n:])
    return np.concatenate([first, (slope[n:] - first @ border_DC) / diagonal_C])


_COMMON = 3  # log T, s and r come before the offsets


class _Softmax:
    """The penalised log-loss as a function of (log T, s, r, b of the classes that there are)."""

    def __init__(
        self,
        z_HC: Array,
        y_H: Array,
        weight_H: Array,
        log_share_C: Array,
        class_K: Array,
        lacks: float,
    ) -> None:
        self.z_HC, self.y_H, self.weight_H, self.class_K = z_HC, y_H, weight_H, class_K
        self.lacks = lacks
        self.common_DC = np.stack([log_share_C, np.linspace(-0.5, 0.5, z_HC.shape[1])])
        of_share = _KNOWN if lacks == 1.0 else _OF_OFFSET
        offsets = np.full(len(class_K), _OF_OFFSET)
        self.held = np.concatenate([[_OF_TEMPERATURE, of_share, _OF_COMMON], offsets])

    def start(self) -> Array:
        """As the strategy says that outputs are."""
        return np.concatenate([[0.0, self.lacks, 0.0], np.zeros(len(self.class_K))])

    def at(self, v: Array) -> tuple[float, Array]:
        """The value, and Fisher's step: its slope divided by the expected curvature."""
        t, row_H = np.exp(-v[0]), np.arange(len(self.y_H))
        a_HC = t * self.z_HC + v[1:_COMMON] @ self.common_DC
        a_HC[:, self.class_K] += v[_COMMON:]
        a_HC -= a_HC.max(1, keepdims=True)
        a_HC -= np.log(np.exp(a_HC).sum(1, keepdims=True))
        p_HC = np.exp(a_HC)
        off = v - self.start()
        loss = -float(self.weight_H @ a_HC[row_H, self.y_H]) + 0.5 * float(self.held @ off**2)
        # da/dv of log T, s and r
        common = (-t * self.z_HC, *(np.broadcast_to(d_C, p_HC.shape) for d_C in self.common_DC))
        mean_HV = np.column_stack([*((p_HC * d_HC).sum(1) for d_HC in common), p_HC[:, self.class_K]])  # fmt: skip
        true_HV = np.column_stack(
            [*(d_HC[row_H, self.y_H] for d_HC in common), self.y_H[:, None] == self.class_K]
        )
        slope = self.weight_H @ (mean_HV - true_HV) + self.held * off
        curve = -(mean_HV * self.weight_H[:, None]).T @ mean_HV + np.diag(self.held)
        self._add_squares(curve, p_HC, common)
        return loss, np.linalg.solve(curve, slope)

    def _add_squares(self, curve: Array, p_HC: Array, common: Sequence[Array]) -> None:
        """+ the mean of da da^T over the classes, which the product of the means was taken from."""
        weighted_HC = p_HC * self.weight_H[:, None]
        for i, d_HC in enumerate(common):
            with_bias_K = (weighted_HC * d_HC).sum(0)[self.class_K]
            curve[i, _COMMON:] += with_bias_K
            curve[_COMMON:, i] += with_bias_K
            for j, other_HC in enumerate(common):
                curve[i, j] += float((weighted_HC * d_HC * other_HC).sum())
        own = np.arange(_COMMON, len(curve))
        curve[own, own] += weighted_HC.sum(0)[self.class_K]


def _newton(at: Callable[[Array], tuple[float, Array]], start: Array) -> Array:
    """The minimum: steps that are halved until they lead down; the first entry stays within `_LOG_RANGE`."""
    here, (loss, step) = start, at(start)
    for _ in range(_STEPS):
        for halving in range(_HALVINGS):
            there = here - step * 0.5**halving
            there[0] = np.clip(there[0], -_LOG_RANGE, _LOG_RANGE)
            found = at(there)
            if found[0] < loss:
                break
        else:
            return here
        gained, here, (loss, step) = loss - found[0], there, found
        if gained < 1e-9 * (1 + abs(loss)):
            break
    return here


def _spread(row_H: Array, columns: int) -> Array:
    """All of the rows, or evenly spaced ones where there would be too many numbers."""
    most = max(1, _NUMBERS // max(columns, 1))
    return row_H if len(row_H) <= most else row_H[np.linspace(0, len(row_H) - 1, most).astype(int)]


# -- how far off ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bins:
    """Probabilities and what came true, by bin of equal mass: sums over each row's entries, float64 [H, BINS]."""

    p_HB: Array
    hit_HB: Array
    weight_HB: Array

    @classmethod
    def of(cls, p_HN: Array, hit_HN: Array, weight_HN: Array) -> Bins:
        """Of N probabilities a row."""
        rows, columns = len(p_HN), int(p_HN.shape[1])
        order = np.argsort(p_HN, None, kind="stable")
        weight_N = weight_HN.ravel().astype(np.float64)
        mass = weight_N[order]
        bin_N = np.empty(len(order), np.int64)
        middle = (np.cumsum(mass) - 0.5 * mass) / max(float(mass.sum()), 1e-300)
        bin_N[order] = np.minimum((middle * BINS).astype(np.int64), BINS - 1)
        place_N = np.arange(rows * columns) // columns * BINS + bin_N
        p_HB, hit_HB, weight_HB = (
            np.bincount(place_N, value, rows * BINS).reshape(-1, BINS)
            for value in (weight_N * p_HN.ravel(), weight_N * hit_HN.ravel(), weight_N)
        )
        return cls(p_HB, hit_HB, weight_HB)

    def error(self) -> float | None:
        """Expected calibration error: the mean over bins of |mean probability - rate|; None without rows or numbers."""
        total = float(self.weight_HB.sum())
        found = float(np.abs((self.p_HB - self.hit_HB).sum(0)).sum()) / total if total else np.nan
        return found if np.isfinite(found) else None

    def interval(self, seed: int, purpose: str) -> list[float] | None:
        """The middle 95 % of the errors of rows drawn again with replacement, in the bins that they were in."""
        rows = len(self.p_HB)
        if self.error() is None:
            return None
        count_DH = _drawn(seed, purpose, rows)
        off_D = np.abs(count_DH @ (self.p_HB - self.hit_HB)).sum(1)
        error_D = off_D / np.maximum(count_DH @ self.weight_HB.sum(1), 1e-300)
        low, high = np.quantile(error_D, (0.025, 0.975)).tolist()
        return [low, high]


@lru_cache(maxsize=8)
def _drawn(seed: int, purpose: str, rows: int) -> Array:
    """How often each row is drawn with replacement, float64 [D, H]: the same for all samples of so many rows."""
    row_DH = rng.integers(seed, purpose, 0, _DRAWS * rows, rows).reshape(_DRAWS, rows)
    place_N = (row_DH + np.arange(_DRAWS)[:, None] * rows).ravel()
    count_DH = np.bincount(place_N, minlength=_DRAWS * rows).reshape(_DRAWS, rows)
    return count_DH.astype(np.float64)  # products of whole numbers take the slow way
