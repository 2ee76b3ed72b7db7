"""Two models, or one at two moments, compared row by row on the same rows: how much was lost, and how sure that is.

Every metric here is one minus a ratio of sums over rows, M = 1 - sum_i w_i e_i / sum_i w_i s_i, with an error e_i, a size
s_i and a weight w_i a row (`RowErrors`). The loss between two error vectors on the same rows is then a sum of differences
d_i = w_i (e'_i - e_i) / sum_i w_i s_i, of which only rows that changed are not 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from mtl_engine.types import Array, Json

_STEPS = np.sqrt(2.0) ** np.arange(24)  # of lambda, from the normal approximation's best upwards


@dataclass(frozen=True, slots=True)
class RowErrors:
    """A metric row by row: error, size and weight, float64 [H]. Accuracy: wrong or not, 1, and what the row stands for."""

    error_H: Array
    size_H: Array
    weight_H: Array

    @property
    def score(self) -> float | None:
        """The metric; None if no row has a label."""
        size = float((self.weight_H * self.size_H).sum())
        return 1.0 - float((self.weight_H * self.error_H).sum()) / size if size > 0 else None

    def take(self, row_N: Array) -> RowErrors:
        return RowErrors(self.error_H[row_N], self.size_H[row_N], self.weight_H[row_N])


@dataclass(frozen=True, slots=True)
class Paired:
    """What became of a score on the same rows."""

    rows: int
    was: float
    score: float
    spread: float  # standard error of the loss was - score
    chance: float  # at most this probability of such a loss if gains and losses of a row were equally likely
    gain_chance: float  # and of such a gain

    @property
    def loss(self) -> float:
        return self.was - self.score

    def to_dict(self) -> Json:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RowBase:
    """The errors that rows had once, by the rows' ids, int64 and float64 [H]."""

    id_H: Array
    error_H: Array

    def compare(self, id_H: Array, now: RowErrors, min_rows: int) -> Paired | None:
        """The rows that are still there, then and now; None if fewer than `min_rows` are."""
        _, now_N, then_N = np.intersect1d(id_H, self.id_H, return_indices=True)
        return compare(self.error_H[then_N], now.take(now_N)) if len(now_N) >= min_rows else None


def compare(was_H: Array, now: RowErrors) -> Paired | None:
    """The errors that rows had against those they have; None if no row has a label."""
    weight_H = now.weight_H
    size = float((weight_H * now.size_H).sum())
    rows = int(np.count_nonzero(weight_H * now.size_H > 0))
    score = now.score
    if score is None:
        return None
    was = 1.0 - float((weight_H * was_H).sum()) / size
    loss_H = weight_H * (now.error_H - was_H) / size
    spread = float(np.sqrt(((loss_H - loss_H.mean()) ** 2).sum()))
    return Paired(rows, was, score, spread, chance(loss_H), chance(-loss_H))


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


def wilson(score: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a proportion by Wilson's formula; for showing only, no verdict reads it."""
    z2 = 1.96**2
    middle = (score + z2 / (2 * rows)) / (1 + z2 / rows)
    half = 1.96 / (1 + z2 / rows) * (score * (1 - score) / rows + z2 / (4 * rows**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
