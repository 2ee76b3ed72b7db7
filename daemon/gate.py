"""The gate: whether a snapshot may become champion, decided by every task's hold-out, with the numbers it was decided on.

A candidate meets the champion on the held-out rows of the champion's time, among the classes that one knew: what has
grown since is not held against it, and rows that came since cannot speak for the model that learned from their like.
A task's best is what the champion scores there, plus what that one already lacked when it was promoted, so a row of
small losses, each within the tolerance, never adds up to more than the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from daemon.config import Gate
    from daemon.types import Json


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a snapshot that asks to be champion; scores are the tasks' primary ones."""

    scores: Mapping[str, float | None]
    rows: Mapping[str, int]  # of each hold-out
    tolerances: Mapping[str, float]
    is_finite: bool
    held: str = ""  # why the guard holds promotions back, or nothing


@dataclass(frozen=True, slots=True)
class Champion:
    """The snapshot to be beaten: its scores on the same rows, and its own verdict."""

    version: int
    scores: Mapping[str, float | None]
    verdict: Mapping[str, Any]

    def best(self, task: str) -> float | None:
        """The task's best score, in terms of these rows."""
        score = self.scores.get(task)
        told = cast("Json", self.verdict.get("tasks") or {}).get(task, {})
        then, best = told.get("score"), told.get("best")
        lacked = best - then if isinstance(then, float) and isinstance(best, float) else 0.0
        return None if score is None else score + max(0.0, lacked)


def judge(candidate: Candidate, champion: Champion | None, settings: Gate) -> Json:
    """The verdict: `decision` is promoted, refused, held or manual; `reason` in words; the numbers of every task."""
    tasks = {
        name: _task(name, candidate, champion, settings.min_rows)
        for name in sorted(candidate.tolerances)
    }
    decision, reason = _decision(candidate, champion, tasks, settings)
    return {
        "decision": decision,
        "reason": reason,
        "against": None if champion is None else champion.version,
        "tasks": tasks,
    }


def _task(name: str, candidate: Candidate, champion: Champion | None, min_rows: int) -> Json:
    score, rows = candidate.scores.get(name), candidate.rows.get(name, 0)
    best = champion.best(name) if champion is not None else None
    told: Json = {
        "score": score,
        "best": best if score is None or best is None else max(best, score),
        "tolerance": candidate.tolerances[name],
        "rows": rows,
    }
    if best is None:
        return {**told, "best": score, "is_within": True, "why": "the champion does not know it"}
    if rows < min_rows:
        return {**told, "is_within": True, "why": f"not judged: {rows} held-out rows of {min_rows}"}
    is_within = score is not None and score >= best - candidate.tolerances[name]
    return {**told, "is_within": is_within, "why": ""}


def _decision(
    candidate: Candidate, champion: Champion | None, tasks: Json, settings: Gate
) -> tuple[str, str]:
    if not candidate.is_finite:
        return "refused", "its weights are not all finite"
    if candidate.held:
        return "held", candidate.held
    fell = [f"{name} {_number(one['score'])}, best {_number(one['best'])}, tolerance {one['tolerance']:g}"
            for name, one in tasks.items() if not one["is_within"]]  # fmt: skip
    if fell:
        return "refused", "; ".join(fell)
    if settings.promote == "manual":
        return "manual", "it may be promoted: `mtld snapshot promote`"
    if champion is None:
        return "promoted", "there was no champion"
    return "promoted", "every task is within its tolerance of its best"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
