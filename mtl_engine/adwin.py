"""Means that may change without notice: ADWIN, the adaptive window of Bifet and Gavalda.

"Learning from Time-Changing Data with Adaptive Windowing", SDM 2007. The window holds everything since the last
change as an exponential histogram of blocks of rows: at most `BUCKETS` buckets of 1, 2, 4, ... blocks, of which the
oldest two become one. A cut of its n rows into n0 older and n1 newer ones shows a change where their means differ by
more than

    sqrt(2 v L / m) + 2 L / (3 m),    m = n0 n1 / n,    L = ln(2 F ln(n) / delta)

for F statistics (of those that vary) of values that span at most 1, v the variance of each over the whole window.
"""

from __future__ import annotations

import math

import numpy as np

from mtl_engine.types import Array

BUCKETS = 5  # of one size
LEVELS = 16  # sizes; of what is older than the largest, the oldest is dropped
MIN_ROWS = 256  # on both sides of a cut
_CONSTANT = 1e-12  # variance of what does not vary but for rounding; it raises no alarm, so it needs no share of delta


class Window:
    """F means since they last changed. Bound: BUCKETS * LEVELS + 1 buckets of 2 + 2 F numbers."""

    def __init__(self, num_means: int, delta: float) -> None:
        self._f, self._delta = num_means, delta
        self.table_KX = np.zeros(
            (0, 2 + 2 * num_means)
        )  # oldest first: blocks, rows, sum_F, squares_F

    def add(self, x_BF: Array) -> None:
        """A block of rows, float64."""
        row_X = np.concatenate([(1.0, len(x_BF)), x_BF.sum(0), (x_BF * x_BF).sum(0)])
        table_KX, size = np.concatenate([self.table_KX, row_X[None]]), 1
        while len(at := np.flatnonzero(table_KX[:, 0] == size)) > BUCKETS:
            if size < 1 << (LEVELS - 1):
                table_KX[at[1]] += table_KX[at[0]]
            table_KX, size = np.delete(table_KX, at[0], 0), 2 * size
        self.table_KX = table_KX

    def cuts(self) -> tuple[Array, Array, Array]:
        """By cut: rows before it [K], newer minus older means [K, F], and how far those may be apart [K, F]."""
        past_KX = self.table_KX.cumsum(0)
        total_X, n = past_KX[-1], past_KX[-1, 1]
        past_KX = past_KX[(past_KX[:, 1] >= MIN_ROWS) & (n - past_KX[:, 1] >= MIN_ROWS)]
        n0_K1 = past_KX[:, 1:2]
        n1_K1, m_K1 = n - n0_K1, n0_K1 * (n - n0_K1) / n
        sum_F, sum_KF = total_X[2 : 2 + self._f], past_KX[:, 2 : 2 + self._f]
        moved_KF = (sum_F - sum_KF) / n1_K1 - sum_KF / n0_K1
        v_F = np.maximum(total_X[2 + self._f :] / n - (sum_F / n) ** 2, 0.0)
        moving = max(int((v_F > _CONSTANT).sum()), 1)
        log = math.log(2 * moving * max(math.log(n), 1.0) / self._delta)
        return n0_K1[:, 0], moved_KF, np.sqrt(2 * log * v_F / m_K1) + 2 * log / (3 * m_K1)

    def drop(self, rows: float) -> None:
        """Forget the oldest `rows`, as many as a cut has before it."""
        self.table_KX = self.table_KX[self.table_KX[:, 1].cumsum() > rows]
