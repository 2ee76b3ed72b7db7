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


Cuts = tuple[Array, Array, Array]
"""Rows before each cut [K], newer minus older means [K, F], and how far those may be apart [K, F]."""


class Window:
    """F means since they last changed. Bound: BUCKETS * LEVELS + 1 buckets of 1 + 2 F numbers."""

    def __init__(self, num_means: int, delta: float) -> None:
        self._f, self._delta = num_means, delta
        self._sizes: list[int] = []  # blocks in each bucket, oldest first
        self._sums_KX = np.zeros((BUCKETS * LEVELS + 1, 1 + 2 * num_means))  # rows, sums, squares

    def __len__(self) -> int:
        """Rows in the window."""
        return int(self._sums_KX[: len(self._sizes), 0].sum())

    def add(self, x_BF: Array) -> None:
        """A block of rows, float64."""
        sizes, sums_KX, f = self._sizes, self._sums_KX, self._f
        new_X = sums_KX[len(sizes)]
        new_X[0], new_X[1 : 1 + f], new_X[1 + f :] = len(x_BF), x_BF.sum(0), (x_BF * x_BF).sum(0)
        sizes.append(1)
        size = 1
        while sizes.count(size) > BUCKETS:
            first = sizes.index(size)
            if size < 1 << (LEVELS - 1):
                sums_KX[first + 1] += sums_KX[first]
                sizes[first + 1] = 2 * size
            del sizes[first]
            sums_KX[first : len(sizes)] = sums_KX[first + 1 : len(sizes) + 1]
            size *= 2

    def cuts(self) -> Cuts:
        """Every cut with enough rows on both sides."""
        past_KX, f = self._sums_KX[: len(self._sizes)].cumsum(0), self._f
        total_X, n = past_KX[-1], past_KX[-1, 0]
        first, last = np.searchsorted(past_KX[:, 0], (MIN_ROWS, n - MIN_ROWS + 0.5))
        past_KX = past_KX[first:last]
        n0_K1, mean_F = past_KX[:, :1], total_X[1 : 1 + f] / n
        n1_K1 = n - n0_K1
        # newer - older mean = (all - older mean) n / n1
        moved_KF = (mean_F - past_KX[:, 1 : 1 + f] / n0_K1) * (n / n1_K1)
        v_F = np.maximum(total_X[1 + f :] / n - mean_F * mean_F, 0.0)
        moving = max(int((v_F > _CONSTANT).sum()), 1)
        log = math.log(2 * moving * max(math.log(n), 1.0) / self._delta)
        one_m_K1 = n / (n0_K1 * n1_K1)
        return n0_K1[:, 0], moved_KF, np.sqrt(one_m_K1 * (2 * log * v_F)) + one_m_K1 * (2 * log / 3)

    def drop(self, rows: float) -> None:
        """Forget the oldest `rows`, as many as a cut has before it."""
        end = len(self._sizes)
        first = int(np.searchsorted(self._sums_KX[:end, 0].cumsum(), rows, side="right"))
        del self._sizes[:first]
        self._sums_KX[: end - first] = self._sums_KX[first:end].copy()

    def state(self) -> Array:
        """float64 [K, 2 + 2 F]: blocks, rows, sums and sums of squares of every bucket."""
        used_KX = self._sums_KX[: len(self._sizes)]
        return np.concatenate([np.array(self._sizes, np.float64)[:, None], used_KX], 1)

    def load_state(self, table_KX: Array) -> None:
        self._sizes = [int(size) for size in table_KX[:, 0]]
        self._sums_KX[: len(table_KX)] = table_KX[:, 1:]
