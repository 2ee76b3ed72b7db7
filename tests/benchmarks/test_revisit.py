"""A stream that comes back: what counts as best, as retained, and as being within the bar again."""

from __future__ import annotations

import revisit

from mtl_engine.engine import Engine
from tests.support import small_workloads as small


def test_best_is_the_highest_score_before_the_stream_comes_back() -> None:
    taken = [(0, 0, 97.0), (0, 0, 96.0), (1, 0, 98.0), (2, 0, 80.0), (3, 5, 90.0), (3, 10, 93.5), (3, 20, 99.0)]  # fmt: skip
    found = revisit.visit(taken, 3)
    assert found == revisit.Visit(best=98.0, left=96.0, retained=80.0, back=99.0, steps=10)


def test_the_bar_is_on_what_was_retained_not_on_what_came_back() -> None:
    kept, lost = revisit.Visit(90, 90, 86, 70, None), revisit.Visit(90, 90, 80, 90, 5)
    told = revisit.told([kept, lost])
    assert told["below_best"] == 7
    assert not told["within_bar"]
    assert told["within_bar_seeds"] == 1
    assert told["steps_until_within_bar"] == [0, 5]


def test_a_run_ends_with_the_first_phase_and_is_watched_by_every_score() -> None:
    workload = revisit.returning(small.split())
    scores = {"all": revisit.whole(workload), "own": revisit.among_own(workload)}
    found = revisit.run(workload, {"strategy": "er"}, 0, scores)
    assert len(workload.phases) == 6
    assert 50 < found["own"].retained <= found["own"].best <= 100
    assert found["all"].retained <= found["own"].retained


def test_among_its_own_labels_is_not_among_all() -> None:
    workload = small.split()
    engine = Engine.from_config({**small.ENGINE, "strategy": "finetune"})
    for spec in workload.tasks:
        engine.add_task(spec)
    for phase in workload.phases[:2]:
        x, y = phase.rows(phase.order(revisit.np.random.default_rng(0)))
        for start in range(0, len(x), 32):
            engine.observe(phase.task, x[start : start + 32], y[start : start + 32])
    assert revisit.whole(workload)(engine) < 50  # it answers with the classes it saw last
    assert revisit.among_own(workload)(engine) > 60
