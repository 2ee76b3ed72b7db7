"""The gate: whether a snapshot may become champion, with the numbers it was decided on.

Every task is judged on frozen rows, row by row, twice. Against the champion: what is lost is added to what the champion
already lacked when it was promoted, so small losses do not add up from one champion to the next. Against the task's best,
on rows that stay the same as long as it is the best: so nor do losses that luck hides. A task is down if it lost more than
its tolerance *and* the lower end of the paired interval of the loss is above 0: one row that changed by chance speaks for
nothing. A snapshot with a task that is down is refused. Tasks that cannot be judged are named, and lack nothing after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.config import Gate
    from daemon.types import Json

ONE_SIDED_95 = 1.6449  # standard errors below a loss begins its interval
SURELY_BETTER = 1e-4  # chance of such a gain, below which a snapshot is the new best
HIGHEST = 1.0  # of every metric by which tasks are judged

Lost = Mapping[str, Any]
"""A comparison on the same rows (`paired.Paired`): `rows`, `was` (of the other), `score`, `spread`, `gain_chance`."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What a champion lacks to the best of its line, and the variance of that sum of losses."""

    loss: float = 0.0
    variance: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a snapshot that asks to be champion."""

    tolerances: Mapping[str, float]  # of every task there is
    is_finite: bool
    held: str = ""  # why the guard holds promotions back, or nothing
    champion: int | None = None  # the version to be beaten
    against_champion: Mapping[str, Lost] = field(default_factory=dict[str, Lost])
    against_best: Mapping[str, Lost] = field(default_factory=dict[str, Lost])
    lacks: Mapping[str, Lack] = field(default_factory=dict[str, Lack])  # of the champion
    accepted: Collection[str] = ()  # tasks whose level the operator accepted since the champion


def judge(candidate: Candidate, settings: Gate) -> Json:
    """The verdict: `decision` is promoted, refused, held or manual; `reason` in words; the numbers of every task."""
    tasks = {
        name: _task(name, candidate, settings.min_rows) for name in sorted(candidate.tolerances)
    }
    decision, reason = _decision(candidate, tasks, settings)
    return {
        "decision": decision,
        "reason": reason,
        "against": candidate.champion,
        "not_judged": [name for name, task in tasks.items() if task["why"]],
        "tasks": tasks,
    }


def _task(name: str, candidate: Candidate, min_rows: int) -> Json:
    """What is told of a task: `is_within` unless it is down; `is_best` if this snapshot is its best from now on."""
    tolerance, lost = candidate.tolerances[name], candidate.against_champion.get(name)
    if name in candidate.accepted:
        return _unjudged(tolerance, "its level was accepted by the operator")
    if lost is None:
        return _unjudged(tolerance, "the champion does not know it")
    if lost["rows"] < min_rows:
        return _unjudged(tolerance, f"{lost['rows']} rows of {min_rows}", lost)
    lack = candidate.lacks.get(name, Lack())
    loss = min(HIGHEST, lost["was"] + lack.loss) - lost["score"]
    variance = lack.variance + lost["spread"] ** 2
    told = _numbers(lost, loss, variance, tolerance)
    best = candidate.against_best.get(name, lost)
    if best["rows"] >= min_rows and told["is_within"]:
        fixed = _numbers(best, best["was"] - best["score"], best["spread"] ** 2, tolerance)
        told = told if fixed["is_within"] else fixed
    is_best = best["rows"] < min_rows or best["gain_chance"] <= SURELY_BETTER
    kept = {"lack": max(0.0, loss), "variance": variance if loss > 0 else 0.0}
    return {**told, **kept, "is_best": is_best, "tolerance": tolerance, "why": ""}


def _numbers(lost: Lost, loss: float, variance: float, tolerance: float) -> Json:
    is_down = loss > tolerance and loss - ONE_SIDED_95 * variance**0.5 > 0
    numbers = {"score": lost["score"], "best": lost["score"] + loss, "rows": lost["rows"]}
    flipped = {key: lost.get(key, 0) for key in ("worse", "better")}  # rows, against the other
    return {**numbers, **flipped, "is_within": not is_down}


def _unjudged(tolerance: float, why: str, lost: Lost | None = None) -> Json:
    return {
        "score": None if lost is None else lost["score"],
        "best": None if lost is None else lost["was"],
        "rows": 0 if lost is None else lost["rows"],
        "is_within": True,
        "lack": 0.0,
        "variance": 0.0,
        "is_best": True,
        "tolerance": tolerance,
        "why": f"not judged: {why}",
    }


def _decision(candidate: Candidate, tasks: Json, settings: Gate) -> tuple[str, str]:
    if not candidate.is_finite:
        return "refused", "its weights are not all finite"
    if candidate.held:
        return "held", candidate.held
    down = [
        f"{name} {task['score']:.4f}, best {task['best']:.4f}, tolerance {task['tolerance']:g}, {task['rows']} rows"
        for name, task in tasks.items()
        if not task["is_within"]
    ]
    if down:
        return "refused", "; ".join(down)
    if candidate.champion is None:
        words = "there was no champion"
    else:
        unjudged = [name for name, task in tasks.items() if task["why"]]
        words = "every task is within its tolerance of its best" if not unjudged else (
            f"no judged task is below its best; not judged: {', '.join(unjudged)}"
        )  # fmt: skip
    if settings.promote == "manual":
        return "manual", f"it may be promoted: `mtld snapshot promote` ({words})"
    return "promoted", words
