"""How well every task is known: the newest evaluation, what fell, and whose labels look wrong, as all views read them.

Status, top, page, metrics and alerts show no score that comes from anywhere else. What was not evaluated yet has no
number. A task that was retired is left out, whatever an evaluation still says of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from daemon import vitals as vitals_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.types import Json, Vitals

MISSED = 3.0  # evaluations in a row, after which a score is stale
EVERY_S = (
    300.0  # between two of them where the vitals do not say: the default of `evaluate.every_s`
)
REST = "other"  # the sources beyond the bound, together


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one task; None and empty where nothing is."""

    task: str
    metric: str = ""  # the primary one of its kind
    score: float | None = None
    interval: tuple[float, float] | None = None  # where the true score probably is
    rows: int | None = None  # held out, that it was scored on
    at: str = ""
    step: int = 0
    macro_recall: float | None = None
    worst: Json = field(default_factory=dict[str, Any])  # class, recall, rows
    collapsed: str = ""  # what is wrong, in words
    forgetting: float | None = None
    min_acc: float | None = None
    fallen: Json = field(default_factory=dict[str, Any])  # part -> was, is, rows, at, sources

    @property
    def age_s(self) -> float | None:
        """Seconds since it was scored."""
        return vitals_file.age_s(self.at)

    @property
    def deepest(self) -> str:
        """The part that fell furthest; empty where none fell."""
        falls = {part: float(one["was"]) - float(one["is"]) for part, one in self.fallen.items()}
        return max(falls, key=falls.__getitem__, default="")

    @property
    def suspects(self) -> list[str]:
        """The sources whose labels look wrong."""
        named = (cast("list[str]", one.get("sources") or []) for one in self.fallen.values())
        return list(dict.fromkeys(source for sources in named for source in sources))


def standings(told: Mapping[str, Any]) -> list[Standing]:
    """Every declared task of a report, or of vitals as a mapping, in the order of declaration."""
    scored = _found(told.get("evaluation"), "tasks")
    fallen = _found(told.get("guard"), "fallen")
    names = [str(task.get("name")) for task in cast("list[Json]", told.get("tasks") or [])]
    return [_standing(name, scored.get(name) or {}, _of(name, fallen)) for name in names]


def of(vitals: Vitals) -> list[Standing]:
    """The same of vitals."""
    named = ("evaluation", "guard", "tasks")
    return standings({name: getattr(vitals, name) for name in named})


def sources(senders: Json, task: str) -> list[tuple[str, float | None, int]]:
    """Who sent rows of a task, what the model made of them before it learned them, and how many; the lowest first."""
    found = cast("dict[str, Json]", senders.get(task) or {})
    rows = [(name, one.get("score"), int(one.get("rows") or 0)) for name, one in found.items()]
    return sorted(rows, key=lambda row: (row[0] == REST, row[1] is None, row[1] or 0.0))


def is_stale(found: Standing, vitals: Vitals) -> bool:
    """Whether it trains and several evaluations of this task were missed; a score without a step since is no older."""
    every_s, age_s = float(vitals.evaluation.get("every_s", EVERY_S)), found.age_s
    if not every_s or age_s is None or vitals.state != "training" or vitals.step <= found.step:
        return False
    return age_s > MISSED * every_s


def _standing(name: str, scored: Json, fallen: Json) -> Standing:
    interval = scored.get("interval")
    return Standing(
        task=name, metric=scored.get("metric") or "", score=scored.get("score"),
        interval=(interval[0], interval[1]) if interval else None, rows=scored.get("rows"),
        at=scored.get("at") or "", step=scored.get("step") or 0,
        macro_recall=scored.get("macro_recall"), worst=scored.get("worst") or {},
        collapsed=scored.get("collapsed") or "", forgetting=scored.get("forgetting"),
        min_acc=scored.get("min_acc"), fallen=fallen,
    )  # fmt: skip


def _of(task: str, parts: Json) -> Json:
    """Those parts (`task` or `task/phase`) that are of one task."""
    return {part: one for part, one in parts.items() if part.partition("/")[0] == task}


def _found(told: object, name: str) -> Json:
    return cast("Json", cast("Json", told or {}).get(name) or {})
