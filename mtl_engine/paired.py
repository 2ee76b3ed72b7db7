"""Two models, or one at two moments, compared row by row on the same rows: how much was lost, and how sure that is.

Every metric here is one minus a ratio of sums over rows, M = 1 - E / S with E = sum_i w_i e_i and S = sum_i w_i s_i: an
error e_i, a size s_i and a weight w_i a row (`RowErrors`). The loss from one model to another on the same rows is then a
sum over rows, of which only those whose answers changed are not 0:

    E' / S' - E / S = sum_i d_i,   d_i = w_i ((e'_i - e_i) - (s'_i - s_i) E / S) / S'

Sizes are of the labels alone, s' = s, except for F1, where 2 hits + wrong = the yeses of the labels and of the answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from mtl_engine.types import Array, Json

ONE_SIDED_95 = 1.6449  # standard errors
_STEPS = np.sqrt(2.0) ** np.arange(24)  # of lambda, from the normal approximation's best upwards


@dataclass(frozen=True, slots=True)
class RowErrors:
    """A metric row by row: error, size and weight, float64 [H]; a row without a label has weight 0.

    Accuracy: wrong or not, 1, and what the row stands for. `answered_H` is the part of the size that the answers make.
    """

    error_H: Array
    size_H: Array
    weight_H: Array
    answered_H: Array | None = None  # within the size; None if the labels alone decide it

    @property
    def score(self) -> float | None:
        """The metric; None where it is not defined, as where no row has a label."""
        size = float((self.weight_H * self.size_H).sum())
        return 1.0 - float((self.weight_H * self.error_H).sum()) / size if size > 0 else None

    def take(self, row_N: Array) -> RowErrors:
        answered_H = None if self.answered_H is None else self.answered_H[row_N]
        return RowErrors(self.error_H[row_N], self.size_H[row_N], self.weight_H[row_N], answered_H)


@dataclass(frozen=True, slots=True)
class Paired:
    """What became of a score on the same rows."""

    rows: int
    was: float
    score: float
    spread: float  # standard error of the loss was - score
    chance: float  # at most this probability of such a loss if gains and losses of a row were equally likely
    gain_chance: float  # and of such a gain
    worse: int = 0  # rows whose error is larger now
    better: int = 0  # and smaller

    @property
    def loss(self) -> float:
        return self.was - self.score

    @property
    def low(self) -> float:
        """The lower end of the one-sided 95 % interval of the loss (normal approximation)."""
        return self.loss - ONE_SIDED_95 * self.spread

    def to_dict(self) -> Json:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RowBase:
    """The errors that rows had once, by the rows' ids, int64 and float64 [H]."""

    id_H: Array
    error_H: Array
    answered_H: Array | None = None  # as in `RowErrors`

    @classmethod
    def of(cls, id_H: Array, errors: RowErrors) -> RowBase:
        return cls(id_H, errors.error_H, errors.answered_H)

    def compare(self, id_H: Array, now: RowErrors, min_rows: int) -> Paired | None:
        """The rows that are still there, then and now; None if fewer than `min_rows` are."""
        _, now_N, then_N = np.intersect1d(id_H, self.id_H, return_indices=True)
        if len(now_N) < min_rows:
            return None
        answered_H = None if self.answered_H is None else self.answered_H[then_N]
        return compare(self.error_H[then_N], now.take(now_N), answered_H)

    def since(self, id_H: Array, now: RowErrors, min_rows: int) -> Paired | None:
        """What these rows were then, against the rows that came since as they are now: two proportions, pooled.

        Only of rows that are right or wrong; None of others, or with too few rows on a side.
        """
        fresh_N = np.flatnonzero(~np.isin(id_H, self.id_H) & (now.weight_H > 0))
        then, rows = len(self.id_H), len(fresh_N)
        if min(then, rows) < min_rows or now.answered_H is not None or (now.size_H != 1).any():
            return None
        wrong, wrong_then = float(now.error_H[fresh_N].sum()), float(self.error_H.sum())
        p = (wrong + wrong_then) / (rows + then)
        was, score = 1 - wrong_then / then, 1 - wrong / rows
        spread = math.sqrt(p * (1 - p) * (1 / rows + 1 / then))
        z = (was - score) / spread if spread else 0.0
        return Paired(rows, was, score, spread, _tail(z), _tail(-z))

    def to_arrays(self) -> dict[str, Array]:
        """Arrays by name, for a checkpoint."""
        found = {"id": self.id_H, "error": self.error_H}
        return found if self.answered_H is None else {**found, "answered": self.answered_H}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> RowBase:
        return cls(arrays["id"], arrays["error"], arrays.get("answered"))


def compare(was_H: Array, now: RowErrors, answered_H: Array | None = None) -> Paired | None:
    """The errors that rows had (and what was answered then) against those they have; None if there is no metric of them."""
    weight_H, score = now.weight_H, now.score
    if score is None:
        return None
    more_H = np.zeros(len(was_H))  # that the size is now
    if now.answered_H is not None and answered_H is not None:
        more_H = now.answered_H - answered_H
    size = float((weight_H * now.size_H).sum())
    size_then = size - float((weight_H * more_H).sum())
    ratio = float((weight_H * was_H).sum()) / size_then if size_then > 0 else 0.0
    loss_H = weight_H * (now.error_H - was_H - more_H * ratio) / size
    spread = float(np.sqrt(((loss_H - loss_H.mean()) ** 2).sum()))
    was, rows = 1.0 - ratio, int(np.count_nonzero(weight_H))
    flipped = np.sign(now.error_H - was_H)[weight_H > 0]
    worse, better = int((flipped > 0).sum()), int((flipped < 0).sum())
    return Paired(rows, was, score, spread, chance(loss_H), chance(-loss_H), worse, better)


def chance(loss_H: Array) -> float:
    """An upper bound of P(sum of +-|d_i| >= sum d_i) with independent fair signs: Chernoff's, for the signs' own moments.

    min over lambda > 0 of prod_i cosh(lambda d_i) exp(-lambda sum d_i). It is 2^-m where m rows lost the same and none
    gained, near the normal tail where many did both, and never below the exact value; so no draws are needed however
    small it is.
    """
    d_N = loss_H[loss_H != 0]
    total = float(d_N.sum())
    if total <= 0:
        return 1.0
    scale = float(np.abs(d_N).max())
    d_N, total = d_N / scale, total / scale
    lambda_K = total / float((d_N**2).sum()) * _STEPS
    bend_KN = lambda_K[:, None] * np.abs(d_N)
    log_cosh_K = (bend_KN + np.log1p(np.exp(-2 * bend_KN)) - np.log(2)).sum(1)
    return float(np.exp(min(0.0, float((log_cosh_K - lambda_K * total).min()))))


def _tail(z: float) -> float:
    """P(Z >= z) of a normal Z."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def wilson(score: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a proportion by Wilson's formula; for showing only, no verdict reads it."""
    z2 = 1.96**2
    middle = (score + z2 / (2 * rows)) / (1 + z2 / rows)
    half = 1.96 / (1 + z2 / rows) * (score * (1 - score) / rows + z2 / (4 * rows**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
