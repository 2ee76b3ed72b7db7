"""Every row is trained on once, in the order that the workload says, and phases end where they end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from training import turns
from workloads.base import Workload

from mtl_engine.engine import Engine
from tests.support import small_workloads as small


class Listener(Engine):
    """An engine that writes down the labels of its stream rows and its switches."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.told: list[Any] = []

    def step(self, rows: Any) -> Any:
        targets = [part.targets["images"].y for part in rows]
        labels = self.describe()["tasks"][0]["classes"]
        self.told.append([labels[c] for y in targets for c in y])
        return super().step(rows)

    def observe(self, *given: Any) -> Any:
        return self.step([self.prepare(*given)])

    def switch_task(self, task: str, phase: Any = None, scored: Any = None) -> Any:
        self.told.append(phase)
        return super().switch_task(task, phase, scored)


def labels_of(workload: Workload) -> Counter[int]:
    return Counter(
        int(y) for phase in workload.phases for y in phase.y for _ in range(phase.passes)
    )


def steps(engine: Listener) -> list[list[int]]:
    return [one for one in engine.told if isinstance(one, list)]


@pytest.mark.parametrize("how", ["phases", "events", "joint"])
def test_every_row_is_trained_on_as_often_as_its_phase_says(how: str) -> None:
    workload = small.split(event_rows=7 if how == "events" else None)
    phases = (replace(workload.phases[0], passes=3), *workload.phases[1:])
    workload = replace(workload, phases=phases)
    engine = Listener(**workload.engine)
    for turn in turns(engine, workload, 0, joint=how == "joint"):
        turn.train()
    assert Counter(int(y) for step in steps(engine) for y in step) == labels_of(workload)


def test_a_phase_is_announced_and_ends_with_its_last_row() -> None:
    workload = small.split()
    engine = Listener(**workload.engine)
    ends = [turn.phase for turn in turns(engine, workload, 0) if turn.train() and turn.ends]
    assert ends == [0, 1, 2, 3, 4]
    assert [one for one in engine.told if isinstance(one, str)] == [p.name for p in workload.phases]
    at = 0
    for phase, one in enumerate(workload.phases):
        mine = steps(engine)[at : (at := at - (-len(one) // 32))]
        assert {y // 2 for step in mine for y in step} == {phase}


def test_events_fill_batches_across_phases_and_announce_nothing() -> None:
    workload = small.split(event_rows=7)
    engine = Listener(**workload.engine)
    seen = [turn for turn in turns(engine, workload, 0) if turn.train()]
    assert not [one for one in engine.told if isinstance(one, str)]
    assert {len(step) for step in steps(engine)[:-1]} == {32}
    assert any(len({y // 2 for y in step}) == 2 for step in steps(engine))
    ends = np.cumsum([len(phase) for phase in workload.phases])
    assert [-(-end // 32) for end in ends] == [k + 1 for k, turn in enumerate(seen) if turn.ends]


def test_events_bring_the_rows_of_the_phases_in_the_same_order() -> None:
    labels: list[list[int]] = []
    for rows in (None, 5):
        engine = Listener(**small.ENGINE)
        for turn in turns(engine, small.split(event_rows=rows), 3):
            turn.train()
        labels.append([y for step in steps(engine) for y in step])
    assert labels[0] == labels[1]


def test_joint_rows_are_mixed_from_the_first_step_on() -> None:
    workload = small.split()
    engine = Listener(**workload.engine)
    next(turns(engine, workload, 0, joint=True)).train()
    assert len({y // 2 for y in steps(engine)[0]}) == 5


def test_a_pixel_order_is_the_same_for_stream_and_test_rows() -> None:
    phase = small.permuted().phases[1]
    (x, _), (xt, _) = phase.rows(np.arange(3)), phase.test(slice(0, 3))
    assert phase.pixels is not None
    assert np.array_equal(x.reshape(3, -1), phase.x[:3].reshape(3, -1)[:, phase.pixels])
    assert np.array_equal(xt.reshape(3, -1), phase.test_x[:3].reshape(3, -1)[:, phase.pixels])
