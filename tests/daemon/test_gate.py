"""The gate over histories of every sort: what is worse never becomes champion, what is better does, and nothing locks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.config import Gate
from daemon.gate import Candidate, Lack, judge
from tests.support.gatekeeping import KEPT, TOLERANCE, World
from tests.support.histories import play

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.types import Json

HISTORIES = 500  # here; `benchmarks/gate.py` plays 10,000


def everything(candidate: Candidate, settings: Gate) -> Json:
    """A gate that promotes whatever comes."""
    return {**judge(candidate, settings), "decision": "promoted"}


def nothing(candidate: Candidate, settings: Gate) -> Json:
    """A gate that promotes nothing after the first."""
    told = judge(candidate, settings)
    return told if candidate.champion is None else {**told, "decision": "refused"}


def test_in_no_random_history_does_a_worse_snapshot_become_champion_or_a_better_one_not() -> None:
    assert {seed: faults for seed in range(HISTORIES) if (faults := play(seed))} == {}


@pytest.mark.parametrize(
    ("decide", "fault"),
    [
        (everything, "a worse one became champion"),
        (nothing, "a better one did not become champion"),
    ],
)
def test_a_gate_that_promotes_everything_or_nothing_is_found_out(
    decide: Callable[[Candidate, Gate], Json], fault: str
) -> None:
    assert fault in [told for seed in range(60) for told in play(seed, decide)]


def world(quality: float = 0.95, rows: int = 2000, tasks: int = 1, seed: int = 0) -> World:
    found = World(seed)
    for number in range(tasks):
        found.add_task(f"t{number}", quality)
        found.stream(f"t{number}", rows)
    return found


def test_a_snapshot_made_while_few_rows_were_held_out_does_not_lock_the_gate() -> None:
    one = world(rows=14)
    assert one.publish()["decision"] == "promoted"
    one.move("t0", 0.7)  # the rule changed
    second = one.publish()
    assert second["decision"] == "promoted"
    assert second["not_judged"] == ["t0"]
    one.stream("t0", 300)
    again = one.publish()  # with weights as good as the champion's, against the champion's 14 rows
    assert again["decision"] == "promoted"
    one.publish()
    one.move("t0", 0.3)
    worse = one.publish()
    assert worse["not_judged"] == []
    assert worse["decision"] == "refused"


def test_a_forced_promotion_starts_anew() -> None:
    one = world()
    one.publish()
    one.move("t0", 0.5)
    assert one.publish()["decision"] == "refused"
    one.force()
    assert one.publish()["decision"] == "promoted"
    one.move("t0", 0.4)
    assert one.publish()["decision"] == "refused"


def test_no_stretch_of_the_stream_makes_the_gate_forget_what_the_champion_can() -> None:
    one = world(quality=0.94, rows=KEPT)
    one.publish()
    one.move("t0", 0.11)
    for _ in range(4):
        one.stream("t0", 25 * KEPT)
        verdict = one.publish()
        assert verdict["decision"] == "refused"
        assert verdict["tasks"]["t0"]["rows"] == KEPT


def test_an_accepted_task_no_longer_keeps_others_from_being_served() -> None:
    one = world(tasks=2)
    one.publish()
    one.move("t0", 0.5)
    one.move("t1", 0.98)
    assert one.publish()["decision"] == "refused"
    one.accept("t0")
    verdict = one.publish()
    assert verdict["decision"] == "promoted"
    assert verdict["not_judged"] == ["t0"]
    one.move("t0", 0.3)
    assert one.publish()["decision"] == "refused"  # measured by its new level


def test_a_thousand_small_losses_never_add_up_to_more_than_the_tolerance() -> None:
    one = world()
    for _ in range(1000):
        one.move("t0", one.quality["t0"] - 0.0005)
        one.stream("t0", 20)
        one.publish()
    served = one.truth[one.champions[-1]]["t0"]
    chance = 2 * (0.05 * 0.95 / KEPT) ** 0.5  # two standard errors of a score on the rows there are
    assert one.quality["t0"] < 0.5
    assert 0.95 - served <= TOLERANCE + chance
    assert one.measures.lacks["t0"].loss <= TOLERANCE + chance


@pytest.mark.parametrize(("tasks", "part"), [(1, 0.9), (5, 0.75), (20, 0.5)])
def test_models_that_are_as_good_as_the_champion_are_served(tasks: int, part: float) -> None:
    one = world(tasks=tasks)
    for _ in range(60):
        for name in one.quality:
            one.stream(name, 20)
        one.publish()
    assert len(one.champions) >= part * 60


def lost(was: float, score: float, rows: int = 400, spread: float = 0.001) -> Json:
    return {"rows": rows, "was": was, "score": score, "spread": spread, "gain_chance": 1.0}


def verdict_of(**told: Json) -> Json:
    candidate = Candidate(
        tolerances=dict.fromkeys(told, TOLERANCE), is_finite=True, champion=7, against_champion=told
    )
    return judge(candidate, Gate())


def test_one_row_that_changed_by_chance_refuses_nothing() -> None:
    assert verdict_of(a=lost(0.96, 0.945, spread=0.012))["decision"] == "promoted"
    assert verdict_of(a=lost(0.96, 0.945, spread=0.002))["decision"] == "refused"


def test_the_verdict_names_every_task_that_is_down_with_its_numbers() -> None:
    told = verdict_of(a=lost(0.96, 0.50), b=lost(0.9, 0.9), c=lost(0.8, 0.7))
    assert told["reason"] == (
        "a 0.5000, best 0.9600, tolerance 0.01, 400 rows; c 0.7000, best 0.8000, tolerance 0.01, 400 rows"
    )
    assert told["against"] == 7


def test_what_the_champion_lacked_counts_and_no_best_is_above_the_highest_score() -> None:
    candidate = Candidate(
        tolerances={"a": TOLERANCE},
        is_finite=True,
        champion=7,
        against_champion={"a": lost(0.998, 0.995)},
        lacks={"a": Lack(0.009, 1e-6)},
    )
    told = judge(candidate, Gate())["tasks"]["a"]
    assert told["best"] == pytest.approx(1.0)
    assert told["lack"] == pytest.approx(0.005)


def test_weights_that_are_not_finite_what_the_guard_holds_and_manual_promotion_come_first() -> None:
    both = {
        "tolerances": {"a": TOLERANCE},
        "champion": 7,
        "against_champion": {"a": lost(0.9, 0.9)},
    }
    assert judge(Candidate(is_finite=False, **both), Gate())["decision"] == "refused"
    assert judge(Candidate(is_finite=True, held="a fell", **both), Gate())["decision"] == "held"
    manual = judge(Candidate(is_finite=True, **both), Gate(promote="manual"))
    assert manual["decision"] == "manual"
    assert "mtld snapshot promote" in manual["reason"]
