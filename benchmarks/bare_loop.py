"""A whole step of the engine as a multiple of the plainest PyTorch loop that trains the same net on as many rows.

The loop has torch's own SGD with its defaults, float32 rows ready in memory, and stream plus replay rows in every step.
Engine and loop take turns in one process, so that a machine that becomes slower does so for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from training import Turn, turns
from workloads.base import Workload

from mtl_engine.engine import Engine

PAIRS = 15
STEPS = 300  # of each side of a pair, at least
ROWS = 20_000  # that the bare loop goes round


def ratio(
    workload: Workload, settings: dict[str, Any], *, joint: bool, pairs: int = PAIRS
) -> dict[str, float]:
    """Median, least and greatest ratio over alternating pairs, and the rows of a step.

    The engine goes through the workload from its first row, again with another seed when it ends: growing heads,
    inserts into a young buffer and teachers made inside steps are in it. Switches between steps and evaluations are not.
    """
    engine_s = _engine_blocks(workload, settings, joint=joint)
    next(engine_s)  # neither side's first steps count
    rows = _rows_per_step(workload, settings, joint=joint)
    loop = BareLoop(workload, settings["trunk"], rows)
    loop.seconds(STEPS)
    found: list[float] = []
    for _ in range(pairs):
        steps, seconds = next(engine_s)
        found.append(seconds / loop.seconds(steps))
    return {
        "time_ratio_median": round(median(found), 3),
        "time_ratio_min": round(min(found), 3),
        "time_ratio_max": round(max(found), 3),
        "rows_per_step": rows,
    }


class BareLoop:
    """The loop; it keeps its net and its place between two calls."""

    def __init__(self, workload: Workload, trunk: Mapping[str, Any], rows: int) -> None:
        assert workload.bare_net is not None
        labels = np.concatenate([phase.y for phase in workload.phases])
        images = np.concatenate([phase.x[: ROWS // 5] for phase in workload.phases])
        order = np.random.default_rng(0).permutation(len(images))[:ROWS]
        self.x = torch.from_numpy(images[order]).flatten(1).float() / 255
        self.y = torch.from_numpy(
            np.concatenate([phase.y[: ROWS // 5] for phase in workload.phases])[order]
        )
        torch.manual_seed(0)
        self.net = workload.bare_net(trunk, len(np.unique(labels)))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.03)
        self.rows, self.at = rows, 0

    def seconds(self, steps: int) -> float:
        """Seconds that as many steps take."""
        net, optimizer, x, y, rows, at = (
            self.net,
            self.optimizer,
            self.x,
            self.y,
            self.rows,
            self.at,
        )
        begin = perf_counter()
        for _ in range(steps):
            loss = functional.cross_entropy(net(x[at : at + rows]), y[at : at + rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            at = at + rows if at + 2 * rows <= len(x) else 0
        self.at = at
        return perf_counter() - begin


def _engine_blocks(
    workload: Workload, settings: dict[str, Any], *, joint: bool
) -> Iterator[tuple[int, float]]:
    """(steps, seconds) of block after block of at least `STEPS` steps."""
    block = _block(workload)
    steps, seconds = 0, 0.0
    for turn in _endless(workload, settings, joint=joint):
        begin = perf_counter()
        turn.train()
        seconds += perf_counter() - begin
        steps += 1
        if steps == block:
            yield steps, seconds
            steps, seconds = 0, 0.0


def _block(workload: Workload) -> int:
    """A phase's steps where that is enough, so that every pair has a whole phase."""
    sizes = {-(-len(phase) // 32) for phase in workload.phases}
    return min(sizes) if len(sizes) == 1 and STEPS <= min(sizes) < 2 * STEPS else STEPS


def _endless(workload: Workload, settings: dict[str, Any], *, joint: bool) -> Iterator[Turn]:
    seed = 0
    while True:
        engine = Engine(**{**settings, "seed": seed})
        yield from turns(engine, workload, seed, joint=joint)
        seed += 1


def _rows_per_step(workload: Workload, settings: dict[str, Any], *, joint: bool) -> int:
    """Rows of a step once there is something to replay."""
    stream = turns(Engine(**settings), workload, 0, joint=joint)
    report = [next(stream).train() for _ in range(4)][-1]
    return report.stream_rows + report.replayed_rows
