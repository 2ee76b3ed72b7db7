"""A world without a model: tasks whose judge rows a model of a known quality gets right or wrong, for tests of the gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.config import Gate
from daemon.gate import Candidate, judge
from daemon.measures import Measures
from mtl_engine.paired import Paired, RowErrors, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.types import Json

TOLERANCE = 0.01
KEPT = 500  # judge rows of a task at most


@dataclass
class FrozenRows:
    """Rows by number, with the errors of the model they were frozen with."""

    rows: np.ndarray
    errors: np.ndarray


@dataclass
class World:
    """A model of a true quality for each task, its hold-outs, and what the gate makes of the snapshots of it.

    A model gets a row right if the row's difficulty, moved a little by a chance of the snapshot, is below its quality: two
    models of nearly one quality agree on most rows, as real ones do.
    """

    seed: int
    decide: Callable[[Candidate, Gate], Json] = judge
    noise: float = 0.02
    quality: dict[str, float] = field(default_factory=dict[str, float])
    held: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    accepted: dict[str, str] = field(default_factory=dict[str, str])
    champions: list[int] = field(
        default_factory=list[int]
    )  # every version that became champion, in order
    truth: dict[int, dict[str, float]] = field(default_factory=dict[int, "dict[str, float]"])

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)
        self.measures = Measures(keep=5)
        self.version = 0
        self.time = 0
        self.shown: dict[tuple[str, int], np.ndarray] = {}
        self.met: dict[str, Paired] = {}  # at the last publication: the champion, and the best
        self.met_best: dict[str, Paired] = {}
        self._rows = 0
        self._seen: dict[str, int] = {}

    # -- the stream --------------------------------------------------------------------------------------------

    def add_task(self, name: str, quality: float = 0.9) -> None:
        self.quality[name], self.held[name], self._seen[name] = quality, np.zeros(0, np.int64), 0

    def retire(self, name: str) -> None:
        for named in (self.quality, self.held, self._seen):
            named.pop(name)

    def stream(self, name: str, rows: int) -> None:
        """So many judge rows more: a reservoir, in which old rows make room."""
        self.time += 1
        held, seen = self.held[name], self._seen[name]
        fills = min(rows, KEPT - len(held))
        held = np.concatenate([held, self._rows + np.arange(fills)])
        later = seen + fills + 1 + np.arange(rows - fills)  # how many rows have come with each
        at = (self.draw.random(rows - fills) * later).astype(np.int64)
        kept = np.flatnonzero(at < KEPT)
        held[at[kept]] = self._rows + fills + kept
        self.held[name], self._seen[name] = held, seen + rows
        self._rows += rows

    def move(self, name: str, quality: float) -> None:
        """The model is as good as this at a task now."""
        self.quality[name] = min(0.99, max(0.01, quality))

    # -- the judge that `Measures` asks ------------------------------------------------------------------------

    def errors(self, name: str, rows: np.ndarray) -> np.ndarray:
        """1.0 for each row that the present model gets wrong; the same answer however often it is asked."""
        difficulty = _uniform(rows, 17)
        moved = difficulty + self.noise * (_uniform(rows, 1000 + 7 * self.version) - 0.5)
        return (moved >= self.quality[name]).astype(np.float64)

    def freeze(self) -> dict[str, Any]:
        return {
            name: FrozenRows(rows.copy(), self.errors(name, rows))
            for name, rows in self.held.items()
            if len(rows)
        }

    def meet(self, frozen: Mapping[str, FrozenRows]) -> dict[str, Paired]:
        met: dict[str, Paired] = {}
        for name, one in frozen.items():
            if name in self.quality:
                ones = np.ones(len(one.rows))
                paired = compare(one.errors, RowErrors(self.errors(name, one.rows), ones, ones))
                if paired is not None:
                    met[name] = paired
        return met

    # -- publications ------------------------------------------------------------------------------------------

    def publish(self) -> Json:
        """Cut a snapshot of the model as it is, and promote it if the gate says so."""
        self.version += 1
        self.time += 1
        self.truth[self.version] = dict(self.quality)
        champion = self.champions[-1] if self.champions else None
        self.measures.follow(champion, self, "", "")  # pyright: ignore[reportArgumentType]
        champions, bests, waived = self.measures.meet(self, self.accepted)  # pyright: ignore[reportArgumentType]
        candidate = Candidate(
            tolerances=dict.fromkeys(self.quality, TOLERANCE),
            is_finite=True,
            champion=champion,
            against_champion={name: one.to_dict() for name, one in champions.items()},
            against_best={name: one.to_dict() for name, one in bests.items()},
            lacks=self.measures.lacks,
            accepted=waived,
        )
        verdict = self.decide(candidate, Gate())
        self.measures.add(self.version, self, f"{self.time}-0", verdict, self.champions[-2:])  # pyright: ignore[reportArgumentType]
        self.met, self.met_best = champions, bests
        if verdict["decision"] == "promoted":
            self.champions.append(self.version)
        return verdict

    def force(self) -> None:
        """The operator makes the newest snapshot champion, whatever the gate said."""
        self.champions.append(self.version)

    def accept(self, name: str) -> None:
        self.time += 1
        self.accepted[name] = f"{self.time}-0"


def _uniform(rows: np.ndarray, key: int) -> np.ndarray:
    """A number in [0, 1) for every row, a function of row and key."""
    with np.errstate(over="ignore"):
        bits = (rows.astype(np.uint64) + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
