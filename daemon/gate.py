"""The gate: whether a snapshot may become champion, with the numbers it was decided on.

Every task is judged on frozen rows, row by row: against the champion, and against the task's best. It is down if it lost
more than its tolerance *and* the lower end of the paired interval of the loss is above 0: one row that changed by chance
speaks for nothing, and a loss that is there is not let pass because it is small. A snapshot with a task that is down is
refused. Tasks that cannot be judged (too few rows, new since the champion, accepted by the operator) are named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.config import Gate
    from daemon.types import Json

Lost = Mapping[str, Any]
"""A comparison on the same rows: `rows`, `was` (of the other), `score`, and `low`, the lower end of the loss's interval."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a snapshot that asks to be champion."""

    tolerances: Mapping[str, float]  # of every task there is
    is_finite: bool
    held: str = ""  # why the guard holds promotions back, or nothing
    champion: int | None = None  # the version to be beaten
    against_champion: Mapping[str, Lost] = field(default_factory=dict[str, Lost])
    against_best: Mapping[str, Lost] = field(
        default_factory=dict[str, Lost]
    )  # if another one than the champion
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
    """`is_within` unless the task is down; `is_best` if from now on this snapshot is the task's best."""
    tolerance = candidate.tolerances[name]
    lost, best = candidate.against_champion.get(name), candidate.against_best.get(name)
    told: Json = {"score": None, "best": None, "tolerance": tolerance, "rows": 0, "is_within": True, "is_best": True, "why": ""}  # fmt: skip
    if name in candidate.accepted:
        return {**told, "why": "not judged: the operator accepted its level"}
    if lost is None:
        return {**told, "why": "not judged: the champion does not know it"}
    told |= {"score": lost["score"], "best": lost["was"], "rows": lost["rows"], "low": lost["low"]}
    if lost["rows"] < min_rows:
        return {**told, "why": f"not judged: {lost['rows']} rows of {min_rows}"}
    measures = [lost] if best is None or best["rows"] < min_rows else [lost, best]
    last = measures[-1]
    told |= {"score": last["score"], "best": last["was"], "rows": last["rows"], "low": last["low"]}
    down = [measure for measure in measures if _is_down(measure, tolerance)]
    if down:
        worst = max(down, key=lambda measure: measure["was"] - measure["score"])
        told |= {
            "score": worst["score"],
            "best": worst["was"],
            "rows": worst["rows"],
            "low": worst["low"],
        }
    return {**told, "is_within": not down, "is_best": last["score"] >= last["was"]}


def _is_down(lost: Lost, tolerance: float) -> bool:
    return lost["was"] - lost["score"] > tolerance and lost["low"] > 0


def _decision(candidate: Candidate, tasks: Json, settings: Gate) -> tuple[str, str]:
    if not candidate.is_finite:
        return "refused", "its weights are not all finite"
    if candidate.held:
        return "held", candidate.held
    down = [
        f"{name} {task['score']:.4f}, best {task['best']:.4f} on the same {task['rows']} rows, tolerance {task['tolerance']:g}"
        for name, task in tasks.items()
        if not task["is_within"]
    ]
    if down:
        return "refused", "; ".join(down)
    unjudged = [name for name, task in tasks.items() if task["why"]]
    beside = (
        f"; not judged: {', '.join(unjudged)}"
        if unjudged and candidate.champion is not None
        else ""
    )
    if settings.promote == "manual":
        return "manual", f"it may be promoted: `mtld snapshot promote`{beside}"
    if candidate.champion is None:
        return "promoted", "there was no champion"
    if len(unjudged) == len(tasks):
        return "promoted", f"no task could be judged{beside}"
    return "promoted", f"every judged task is within its tolerance of its best{beside}"
