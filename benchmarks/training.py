"""The steps of a workload, as a daemon would take them: phase by phase, in small events, or all rows shuffled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
from workloads.base import BATCH, Workload

from daemon.batcher import Batcher
from mtl_engine.engine import Engine
from mtl_engine.reports import StepReport
from mtl_engine.types import Array, Rows


@dataclass(frozen=True, slots=True)
class Turn:
    """One step. Only `train` is the engine's work; making the rows is not. `ends` = the phase's last rows are in it."""

    phase: int
    ends: bool
    train: Callable[[], StepReport]


def turns(engine: Engine, workload: Workload, seed: int, *, joint: bool = False) -> Iterator[Turn]:
    """All steps of a stream; rows of a phase come in an order that `seed` decides.

    A joint stream takes the rows of all phases in one random order and has no phases: all its turns belong to the last.
    """
    for spec in workload.tasks:
        engine.add_task(spec)
    draw = np.random.default_rng(seed)
    if joint:
        return _joint(engine, workload, draw)
    if workload.event_rows is not None:
        return _events(engine, workload, draw, workload.event_rows)
    return _phases(engine, workload, draw)


def _phases(engine: Engine, workload: Workload, draw: np.random.Generator) -> Iterator[Turn]:
    for number, phase in enumerate(workload.phases):
        engine.switch_task(phase.task, phase.name)
        x, y = phase.rows(phase.order(draw))
        for start in range(0, len(phase), BATCH):
            rows = slice(start, start + BATCH)
            last = start + BATCH >= len(phase)
            yield Turn(number, last, partial(_observe, engine, phase.task, x, y, rows))


def _observe(engine: Engine, task: str, x: Array, y: Array, rows: slice) -> StepReport:
    return engine.observe(task, x[rows], y[rows])


def _events(
    engine: Engine, workload: Workload, draw: np.random.Generator, event_rows: int
) -> Iterator[Turn]:
    """Batches are rows in log order, whatever phases they come from, with the daemon's own batcher."""
    ends = list(accumulate(len(phase) for phase in workload.phases))
    batcher = Batcher(BATCH)
    events = _prepared(engine, workload, draw, event_rows)

    def train() -> StepReport:
        while (rows := batcher.full_batch()) is None:
            event = next(events, None)
            if event is None:
                rows = batcher.rest()
                break
            batcher.enter(event())
        assert rows is not None, "a turn was made for rows that do not exist"
        return engine.step(rows)

    phase = 0
    for trained in range(BATCH, ends[-1] + BATCH, BATCH):
        over = trained >= ends[phase]
        yield Turn(phase, over, train)
        phase += over


def _prepared(
    engine: Engine, workload: Workload, draw: np.random.Generator, event_rows: int
) -> Iterator[Callable[[], Rows]]:
    for phase in workload.phases:
        x, y = phase.rows(phase.order(draw))
        for start in range(0, len(phase), event_rows):
            rows = slice(start, start + event_rows)
            yield partial(engine.prepare, phase.task, x[rows], y[rows])


def _joint(engine: Engine, workload: Workload, draw: np.random.Generator) -> Iterator[Turn]:
    phases = workload.phases
    phase_N = np.repeat(np.arange(len(phases)), [len(phase) for phase in phases])
    row_N = np.concatenate([phase.order(draw) for phase in phases])
    order = draw.permutation(len(phase_N))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        parts = [
            (phases[k].task, *phases[k].rows(row_N[chosen[phase_N[chosen] == k]]))
            for k in np.unique(phase_N[chosen]).tolist()
        ]

        def train(parts: list[tuple[str, Array, Array]] = parts) -> StepReport:
            return engine.step([engine.prepare(*part) for part in parts])

        yield Turn(len(phases) - 1, start + BATCH >= len(order), train)
