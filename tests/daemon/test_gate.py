"""The gate: which snapshot becomes champion, and with which numbers that was decided."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.config import Gate
from daemon.gate import Candidate, Champion, judge


def candidate(score: float | None, **more: Any) -> Candidate:
    told: dict[str, Any] = {
        "scores": {"a": score}, "rows": {"a": 100}, "tolerances": {"a": 0.02}, "is_finite": True,
    }  # fmt: skip
    return Candidate(**{**told, **more})


def champion(score: float | None, then: float | None = None, best: float | None = None) -> Champion:
    return Champion(7, {"a": score}, {"tasks": {"a": {"score": then, "best": best}}})


@pytest.mark.parametrize(
    ("score", "decision"), [(0.90, "promoted"), (0.885, "promoted"), (0.879, "refused")]
)
def test_a_task_may_fall_by_its_tolerance_and_no_more(score: float, decision: str) -> None:
    assert judge(candidate(score), champion(0.9), Gate())["decision"] == decision


def test_small_losses_do_not_add_up_from_champion_to_champion() -> None:
    first = judge(candidate(0.90), None, Gate())
    second = judge(candidate(0.885), Champion(1, {"a": 0.90}, first), Gate())
    assert second["tasks"]["a"] == {
        "score": 0.885, "best": 0.90, "tolerance": 0.02, "rows": 100, "is_within": True, "why": "",
    }  # fmt: skip
    third = judge(candidate(0.87), Champion(2, {"a": 0.885}, second), Gate())
    assert third["decision"] == "refused"
    assert third["reason"] == "a 0.8700, best 0.9000, tolerance 0.02"


def test_the_best_is_measured_again_on_the_rows_of_today() -> None:
    """The champion scores 0.5 on those that are left, whatever it scored once."""
    verdict = judge(candidate(0.6), champion(0.5, then=0.99, best=0.99), Gate())
    assert (verdict["decision"], verdict["against"]) == ("promoted", 7)
    assert verdict["tasks"]["a"]["best"] == 0.6


def test_a_task_that_the_champion_does_not_know_speaks_for_nothing() -> None:
    verdict = judge(candidate(0.1), Champion(7, {}, {}), Gate())
    assert verdict["decision"] == "promoted"
    assert verdict["tasks"]["a"]["why"] == "the champion does not know it"


def test_a_score_that_is_undefined_now_and_was_defined_is_a_fall() -> None:
    assert judge(candidate(None), champion(0.9), Gate())["reason"].startswith("a undefined")


def test_too_few_held_out_rows_are_not_judged() -> None:
    verdict = judge(candidate(0.1, rows={"a": 3}), champion(0.9), Gate(min_rows=20))
    assert verdict["decision"] == "promoted"
    assert verdict["tasks"]["a"]["why"] == "not judged: 3 held-out rows of 20"


def test_weights_that_are_not_finite_are_refused_whatever_they_score() -> None:
    assert judge(candidate(1.0, is_finite=False), None, Gate())["decision"] == "refused"


def test_promotion_by_hand_leaves_a_good_snapshot_for_the_operator() -> None:
    assert judge(candidate(0.9), champion(0.9), Gate(promote="manual"))["decision"] == "manual"
    assert judge(candidate(0.1), champion(0.9), Gate(promote="manual"))["decision"] == "refused"
