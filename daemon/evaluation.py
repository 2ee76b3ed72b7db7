"""The newest evaluation of every task and part, and what it means beside those before: the numbers that are shown.

average = mean over parts (a task's rows of one phase) of their newest score; forgetting = mean over parts scored before of
their best score then minus the newest (Chaudhry et al. 2018, arXiv 1801.10112); min-ACC = mean over parts of their lowest
score since their best; WC-ACC = (newest part + (k - 1) min-ACC) / k over k parts (De Lange et al. 2023, arXiv 2205.13452).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.identity import id_tuple
from mtl_engine.paired import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.types import Json
    from mtl_engine.evaluate import Scored


class Evaluation:
    """Every number with the entry and the step it is of. Bounds: one record a task, and one a part."""

    def __init__(self) -> None:
        self.tasks: dict[str, Json] = {}
        self.parts: dict[str, Json] = {}
        self.entry_id = ""
        self.step = 0
        self.changes = 0  # of this process: grows whenever something is another

    def scored(self, scored: Scored, entry_id: str, step: int) -> None:
        """Some or all tasks were scored."""
        self.entry_id, self.step = entry_id, step
        self.changes += 1
        for name, metrics in scored.scores.items():
            metric = next(iter(metrics))
            score, rows = scored.primary[name], scored.rows[name]
            is_part = metric != "r2" and score is not None
            self.tasks[name] = {
                "entry": entry_id, "step": step, "weights": scored.weights, "rows": rows, "metric": metric, "score": score,
                "interval": list(wilson(score, rows)) if is_part and score is not None else None,
                "macro_recall": metrics.get("macro_recall"), **scored.cards[name],
            }  # fmt: skip
        for name, part in scored.parts.items():
            if part.score is not None:
                self._mark(name, part.task, part.score, part.rows)

    def _mark(self, name: str, task: str, score: float, rows: int) -> None:
        before = self.parts.get(name)
        best = None if before is None else max(before["score"], before["best"] or before["score"])
        lowest = (
            score if best is None or before is None or score > best else min(before["min"], score)
        )
        self.parts[name] = {"task": task, "score": score, "rows": rows, "best": best, "min": lowest}

    def is_of(self, step: int, tasks: Mapping[str, int], weights: str) -> bool:
        """Whether all these tasks were scored at this step with these weights, so that scoring them again would tell nothing."""
        known = [self.tasks.get(name, {}) for name in tasks]
        return all((one.get("step"), one.get("weights")) == (step, weights) for one in known)

    def forget(self, task: str) -> None:
        """The task is gone."""
        self.changes += 1
        self.tasks.pop(task, None)
        self.parts = {name: part for name, part in self.parts.items() if part["task"] != task}

    def summary(self, task: str | None = None) -> Json:
        """The numbers over all parts, or over those of one task; None if nothing defines them."""
        parts = [part for part in self.parts.values() if task in (None, part["task"])]
        lost = [part["best"] - part["score"] for part in parts if part["best"] is not None]
        lowest = _mean([part["min"] for part in parts])
        worst = None
        if parts and lowest is not None:
            worst = (parts[-1]["score"] + (len(parts) - 1) * lowest) / len(parts)
        return {
            "average": _mean([part["score"] for part in parts]),
            "forgetting": _mean(lost),
            "min_acc": lowest,
            "wc_acc": worst,
        }

    def to_dict(self) -> Json:
        """As the vitals carry it: with the moments of the entries, by the clock of the log's server."""
        if not self.entry_id:
            return {}
        tasks = {
            name: {
                **task,
                **{key: self.summary(name)[key] for key in ("forgetting", "min_acc")},
                "at": moment(task["entry"]),
            }
            for name, task in self.tasks.items()
        }
        rows = sum(task["rows"] for task in self.tasks.values())
        head = {"at": moment(self.entry_id), "step": self.step, "rows": rows}
        return {**head, **self.summary(), "tasks": tasks, "parts": self.parts}

    def state(self) -> Json:
        return {
            "tasks": {name: dict(task) for name, task in self.tasks.items()},
            "parts": {name: dict(part) for name, part in self.parts.items()},
            "entry": self.entry_id,
            "step": self.step,
        }

    def load_state(self, state: Mapping[str, object]) -> None:
        """Take over a state; one of before there were such numbers has none, and the next evaluation brings them."""
        told: Json = dict(state)
        if "tasks" not in told:
            told = {"tasks": {}, "parts": {}, "entry": "", "step": 0}
        self.tasks, self.parts = dict(told["tasks"]), dict(told["parts"])
        self.entry_id, self.step = str(told["entry"]), int(told["step"])
        self.changes += 1


def moment(entry_id: str) -> str:
    """When an entry was added by its id, RFC 3339; empty for none."""
    if not entry_id:
        return ""
    at = datetime.fromtimestamp(id_tuple(entry_id)[0] / 1000, UTC)
    return at.isoformat(timespec="milliseconds")


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
