"""What the gate measures by: rows frozen with every snapshot that is or may become champion, and whose level is each task's best.

A candidate is compared twice, row by row (`gate`): with the champion on the rows of the champion's time, and with the best
of each task on the rows of that one's time. A best goes with its rows: when a champion is surely better on them, when the
task was accepted as it is, and when a champion is made that the gate did not choose. This is no function of the log and
takes no part in what is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.gate import Lack
from daemon.identity import FIRST_ID, id_tuple
from mtl_engine.frozen import FrozenTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from daemon.types import Json
    from mtl_engine.judge import Judge
    from mtl_engine.paired import Paired


@dataclass(slots=True)
class Frozen:
    """What was frozen with one snapshot: rows by task, the watermark it was cut at, and the verdict on it."""

    tasks: dict[str, FrozenTask]
    watermark: str
    verdict: Json = field(default_factory=dict[str, "object"])
    number: int = 0  # of its segments in checkpoints: another one if a task was dropped


class Measures:
    """Frozen rows by version, and by task the version that is its best. Bounds: `keep` versions and one more a task."""

    def __init__(self, keep: int) -> None:
        self.champion: int | None = None
        self.best: dict[str, int] = {}
        self.lacks: dict[str, Lack] = {}  # of the champion, by task
        self._frozen: dict[int, Frozen] = {}
        self._keep = keep

    def add(
        self, version: int, judge: Judge, watermark: str, verdict: Json, named: Iterable[int]
    ) -> None:
        """A snapshot is cut now; `named` are the versions that an alias names."""
        self._frozen[version] = Frozen(judge.freeze(), watermark, verdict)
        newest = sorted(self._frozen, reverse=True)[: self._keep]
        keep = {*newest, *named, *([] if self.champion is None else [self.champion])}
        for other in [other for other in self._frozen if other not in keep]:
            frozen = self._frozen[other]
            left = {n: rows for n, rows in frozen.tasks.items() if self.best.get(n) == other}
            frozen.number += len(left) < len(frozen.tasks)
            frozen.tasks = left
            if not frozen.tasks:
                del self._frozen[other]

    def follow(self, champion: int | None, judge: Judge, path: object, watermark: str) -> None:
        """The champion is this version now: take over what its verdict said, or start anew if it was not the gate's choice.

        One that nothing was frozen with (of a build before, or older than what is kept) gets those of today's judge rows
        that were kept up to its step, with its own errors on them; `path` is where it lies.
        """
        if champion == self.champion:
            return
        if champion is None:
            self.champion, self.best, self.lacks = None, {}, {}
            return
        if champion not in self._frozen:
            self._frozen[champion] = Frozen(judge.freeze_snapshot(str(path)), watermark)
        frozen = self._frozen[champion]
        is_chosen = frozen.verdict.get("decision") in ("promoted", "manual")
        follows = is_chosen and frozen.verdict.get("against") == self.champion
        verdicts: Json = frozen.verdict.get("tasks", {}) if follows else {}
        stays = {name for name, told in verdicts.items() if not told["is_best"]} & self.best.keys()
        self.best = {name: self.best[name] if name in stays else champion for name in frozen.tasks}
        self.lacks = {name: Lack(told["lack"], told["variance"]) for name, told in verdicts.items()}
        self.champion = champion

    def meet(
        self, judge: Judge, accepted: Mapping[str, str]
    ) -> tuple[dict[str, Paired], dict[str, Paired], list[str]]:
        """The present model against the champion and against the best, by task; and tasks accepted since the champion."""
        frozen = self._frozen.get(self.champion or -1)
        if frozen is None:
            return {}, {}, []
        since = id_tuple(frozen.watermark or FIRST_ID)
        waived = [name for name, entry in accepted.items() if id_tuple(entry) > since]
        champions = {name: rows for name, rows in frozen.tasks.items() if name not in waived}
        others: dict[str, FrozenTask] = {}
        for name, version in self.best.items():
            older = self._frozen.get(version)
            if name in champions and older and name in older.tasks:
                others[name] = older.tasks[name]
        own = {name for name in others if self.best[name] == self.champion}
        met = judge.meet(champions)
        bests = judge.meet({name: rows for name, rows in others.items() if name not in own})
        return met, {**{name: met[name] for name in own if name in met}, **bests}, waived

    # -- state -----------------------------------------------------------------------------------------------

    def segments(self) -> dict[str, tuple[int, dict[str, np.ndarray]]]:
        """Arrays by `<version>`; those of one version change only when tasks are dropped from it."""
        found: dict[str, tuple[int, dict[str, np.ndarray]]] = {}
        for version, frozen in self._frozen.items():
            arrays: dict[str, np.ndarray] = {}
            for name, rows in frozen.tasks.items():
                arrays |= {f"{name}/{key}": value for key, value in rows.to_arrays()[0].items()}
            if arrays:
                found[str(version)] = (frozen.number, arrays)
        return found

    def state(self) -> Json:
        return {
            "champion": self.champion,
            "best": dict(self.best),
            "lacks": {name: [lack.loss, lack.variance] for name, lack in self.lacks.items()},
            "frozen": {
                str(version): {
                    "watermark": frozen.watermark, "verdict": frozen.verdict, "number": frozen.number,
                    "tasks": {name: rows.to_arrays()[1] for name, rows in frozen.tasks.items()},
                }
                for version, frozen in self._frozen.items()
            },
        }  # fmt: skip

    def load_state(self, state: Json, segments: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Take over a state; one of before there were frozen rows is {}."""
        self.champion = state.get("champion")
        self.best = dict(state.get("best", {}))
        self.lacks = {name: Lack(*lack) for name, lack in state.get("lacks", {}).items()}
        self._frozen = {}
        for version, told in state.get("frozen", {}).items():
            arrays = segments.get(version, {})
            tasks = {
                name: FrozenTask.from_arrays(_below(name, arrays), meta)
                for name, meta in told["tasks"].items()
            }
            self._frozen[int(version)] = Frozen(
                tasks, told["watermark"], told["verdict"], told["number"]
            )


def _below(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = f"{name}/"
    return {key[len(start) :]: array for key, array in arrays.items() if key.startswith(start)}
