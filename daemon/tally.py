"""What one process counts of itself for the metrics: how often, and how long, in buckets of fixed bounds."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.types import Json

# Upper bounds, s; what is longer falls into a last bucket of its own.
STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
CHECKPOINT_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0)
RUNS = 4096  # (ms, count) pairs kept of the entries that are not durable yet; see `Arrivals`


class Histogram:
    """Counts of values by the first upper bound that is not below them, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def to_dict(self) -> Json:
        """As the vitals carry it; counts are not cumulative, the last is that of no bound."""
        return {"bounds": self.bounds, "counts": list(self.counts), "sum": round(self.sum, 6)}


class Arrivals:
    """When the entries that are applied and not yet durable were added to the log, by the time in their ids.

    Kept as runs of one millisecond. Beyond `RUNS` of them two neighbours become one with the older time, so memory
    is bounded and a wait is told too long rather than too short.
    """

    def __init__(self) -> None:
        self._applied: list[list[int]] = []  # [ms, count], since the last cut was taken
        self._staged: list[list[int]] = []  # in the cut that is being written

    def applied(self, entry_id: str) -> None:
        """One entry took effect."""
        ms = int(entry_id.partition("-")[0])
        runs = self._applied
        if runs and runs[-1][0] == ms:
            runs[-1][1] += 1
            return
        runs.append([ms, 1])
        if len(runs) > RUNS:
            self._applied = _halved(runs)

    def staged(self) -> None:
        """A cut was taken; it holds all that was applied."""
        self._staged += self._applied
        self._applied = []
        while len(self._staged) > RUNS:
            self._staged = _halved(self._staged)

    def durable(self, now_ms: float, waits: Histogram) -> None:
        """The cut became durable: every entry in it has waited until now. One that was not leaves them to the next."""
        for ms, count in self._staged:
            waits.add(max(0.0, (now_ms - ms) / 1e3), count)
        self._staged = []


def _halved(runs: list[list[int]]) -> list[list[int]]:
    pairs = zip(runs[::2], [*runs[1::2], [0, 0]], strict=False)
    return [[older[0], older[1] + newer[1]] for older, newer in pairs]
