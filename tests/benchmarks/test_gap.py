"""What counts as a gap, and that the published and the live weights are scored as they answer."""

from __future__ import annotations

import gap
import numpy as np
import pytest
from gap import Seen, Watcher, dip, figures, grown, run, told
from scoring import Examiner
from training import turns
from workloads import made

from mtl_engine.engine import Engine
from tests.support import small_workloads as small


def seen(step: int, since: int, published: list[float], live: list[float], *, ends: bool = False) -> Seen:  # fmt: skip
    accuracy = {"published": np.array(published), "live": np.array(live)}
    return Seen(step, len(published) - 1, since, ends, accuracy)


RUN = [
    seen(10, 10, [80], [70]),
    seen(20, 20, [90], [90], ends=True),
    seen(30, 10, [85, 50], [40, 60]),
    seen(40, 20, [88, 60], [80, 70]),
    seen(270, 250, [60, 80], [60, 80]),  # more than 200 steps after the growth
    seen(280, 260, [84, 90], [80, 90], ends=True),
]


def test_after_a_growth_there_are_200_steps_with_the_end_of_the_phase_before() -> None:
    (growth,) = grown(RUN)
    assert [one.step for one in growth] == [20, 30, 40]
    found = figures(RUN)
    assert found["published"]["after_growth"] == pytest.approx((85 + 88) / 2)
    assert found["live"]["after_growth"] == pytest.approx((40 + 80) / 2)
    assert found["lead"] == pytest.approx(26.5)
    assert found["lead_by_part"] == [found["lead"]]


def test_a_dip_is_below_both_ends_so_forgetting_for_good_is_none() -> None:
    (growth,) = grown(RUN)
    assert dip(growth, "published") == 3
    assert dip(growth, "live") == 40
    falling = [seen(20, 20, [90], [90], ends=True), seen(30, 10, [85, 1], [85, 1]), seen(40, 20, [70, 1], [70, 1])]  # fmt: skip
    assert dip(falling, "live") == 0


def test_the_lowest_score_counts_wherever_it_was_after_the_phase_ended() -> None:
    found = figures(RUN)
    assert found["published"]["min_acc"] == 60
    assert found["live"]["min_acc"] == 40
    assert found["live"]["wc_acc"] == pytest.approx(90 / 2 + 40 / 2)
    assert found["published"]["accuracy"] == pytest.approx((84 + 90) / 2)
    assert found["published"]["forgetting"] == pytest.approx(90 - 84)


def test_parts_of_a_stream_hold_every_growth_once() -> None:
    for count in (1, 4, 5, 13, 499):
        covered = [k for part in gap.parts(count) for k in range(count)[part]]
        assert covered == list(range(count))
        assert len(gap.parts(count)) == min(count, 5)


def test_published_is_what_the_engine_answers_and_live_what_it_trains() -> None:
    workload = small.split()
    watcher, examiner = Watcher(workload), Examiner(workload)
    differ: dict[str, int] = {"ema": 0, "raw": 0}
    for weights in differ:
        engine = Engine(**{**workload.engine, "weights": weights})
        for turn in turns(engine, workload, 0):
            turn.train()
            if turn.phase < 2:
                found = watcher.accuracy(engine, turn.phase + 1)
                answered = [examiner.whole(engine, k) for k in range(turn.phase + 1)]
                assert found["published"].tolist() == pytest.approx(answered)
                differ[weights] += not np.array_equal(found["published"], found["live"])
    assert differ["ema"] > 0 == differ["raw"]


def test_a_run_is_watched_soon_after_a_growth_and_at_the_ends_of_phases() -> None:
    watched = run(small.split(), 0, soon=4)
    assert [one.phase for one in watched if one.ends] == [0, 1, 2, 3, 4]
    assert all(one.ends or one.since % 4 == 0 for one in watched)
    assert all(len(one.accuracy["live"]) == one.phase + 1 for one in watched)
    line = told([figures(watched), figures(watched)])
    assert line["published"]["accuracy"] > 50
    assert line["lead_each"] == [line["lead"]] * 2


def test_made_classes_come_one_after_another_and_have_a_ceiling() -> None:
    workload = made.clusters(0, classes=4, steps=10)
    assert [len(phase) for phase in workload.phases] == [320] * 4
    assert [set(phase.y.tolist()) for phase in workload.phases] == [{0}, {1}, {2}, {3}]
    assert workload.data["ceiling"] > 90
    assert not np.array_equal(workload.phases[0].x, made.clusters(1, 4, 10).phases[0].x)
    watched = run(workload, 0, soon=5)
    assert [one.step for one in watched if one.ends] == [10, 20, 30, 40]
    assert figures(watched)["published"]["accuracy"] > 25
