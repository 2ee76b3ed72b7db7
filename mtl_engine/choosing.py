"""Which weights are published, the average or the live ones: decided on select rows, and kept until these speak against it.

Both answer the same rows. A task's difference is the score of the average minus that of the live weights, by the metric of
verdicts; every task counts the same, and none by more than 1. The other weights are taken when the 95 % interval of the mean
difference lies wholly on their side. The trunk is shared, so there is one decision for the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from mtl_engine.evaluate import Answered, outputs
from mtl_engine.heldout import Sample
from mtl_engine.paired import Paired, compare
from mtl_engine.tasks.base import TaskType
from mtl_engine.trainer import Trainer
from mtl_engine.types import Json

WEIGHTS = ("chosen", "ema", "raw")
MIN_ROWS = 20  # select rows below which a task has no say, as in the gate
_TWO_SIDED_95 = 1.96  # standard errors
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """One task: how much better the average answers so many select rows than the live weights do."""

    rows: int
    difference: float
    spread: float  # standard error

    @classmethod
    def of(cls, paired: Paired) -> Comparison:
        """`paired` is the average after the live weights.

        The error is as if two rows more had flipped, one either way (as Agresti and Min 2005, doi 10.1002/sim.1781): without
        them four rows that flip the same way would be enough. A task whose metric has no lower bound does not drown the others.
        """
        spread = math.hypot(paired.spread, math.sqrt(2) / paired.rows)
        size = max(1.0, abs(paired.loss), spread)
        return cls(paired.rows, -paired.loss / size, spread / size)


class Choice:
    """What is published, evaluated and taught with. With `weights` = "chosen" it is decided only when somebody says so.

    The average is published first, and wherever too few select rows are there. State: what is published, the newest comparison
    of each task, and what the last decision rests on. With "ema" (always the average) and "raw" there is none.
    """

    def __init__(self, trainer: Trainer, answered: Answered, weights: str) -> None:
        self.weights = weights
        self._trainer, self._answered = trainer, answered
        self._newest: dict[str, Comparison] = {}
        self._rests_on: Json = {}

    @property
    def is_open(self) -> bool:
        """Whether there is anything to decide."""
        return self.weights == "chosen"

    @property
    def published(self) -> str:
        """`average` or `live`."""
        return self._answered.weights

    def counts(self) -> dict[str, int]:
        """Select rows by task, of those that can be compared."""
        held_out, names = self._answered.held_out, self._trainer.model.table_of if self.is_open else ()  # fmt: skip
        counted = {name: held_out.count(name, "select") for name in names}
        return {name: rows for name, rows in counted.items() if rows >= MIN_ROWS}

    def choose(self) -> bool:
        """Compare all tasks and decide; whether other weights are published now."""
        self._newest = {}
        self.compare(self.counts())
        return self.decide()

    def end(self, task: str | None) -> bool:
        """A phase of `task` ends: compare it, and decide with the newest comparisons of the others, so that it does not last."""
        self.compare([] if task is None else [task])
        return self.decide()

    def compare(self, tasks: Iterable[str]) -> None:
        """Let both weights answer the select rows of these tasks; those that are gone or have too few are passed over."""
        there = self.counts()
        known = self._answered.all_of([name for name in tasks if name in there], "select")
        model = self._trainer.model
        with model.using(self._others()):
            for name, (sample, z_HC) in known.items():
                other_HC = outputs(model, {}, name, sample.rows)
                averaged = self._trainer.averaged
                average_HC, live_HC = (z_HC, other_HC) if averaged else (other_HC, z_HC)
                kind = self._trainer.registry[name].kind
                paired = _paired(kind, sample, live_HC, average_HC)
                self._newest.pop(name, None)
                if paired is not None and math.isfinite(paired.loss + paired.spread):
                    self._newest[name] = Comparison.of(paired)

    def decide(self) -> bool:
        """Decide by the newest comparison of every task; whether other weights are published now."""
        if not self.is_open:
            return False
        before, found = self._trainer.averaged, list(self._newest.values())
        if not found:
            self._trainer.averaged, self._rests_on = True, {}
            return not before
        difference = sum(one.difference for one in found) / len(found)
        half = _TWO_SIDED_95 * math.hypot(*(one.spread for one in found)) / len(found)
        if difference + half < 0:
            self._trainer.averaged = False
        elif difference - half > 0:
            self._trainer.averaged = True
        self._rests_on = {
            "step": self._trainer.step_count,
            "tasks": len(found),
            "rows": sum(one.rows for one in found),
            "difference": round(difference, _DIGITS),
            "interval": [round(difference - half, _DIGITS), round(difference + half, _DIGITS)],
        }
        return self._trainer.averaged != before

    def told(self) -> Json:
        """For manifests: which weights, and the difference (average minus live) that the last decision rests on."""
        return {"weights": self.published, "choice": dict(self._rests_on) or None}

    def forget(self, task: str) -> None:
        """The task is gone."""
        self._newest.pop(task, None)

    def _others(self) -> Mapping[str, Tensor]:
        """The weights that are not published; none where these are the model's own."""
        trainer = self._trainer
        return {} if trainer.average is None or trainer.averaged else trainer.average.values

    def state(self) -> Json | None:
        if not self.is_open:
            return None
        newest = {name: asdict(one) for name, one in self._newest.items()}
        return {"live": not self._trainer.averaged, "newest": newest, "rests_on": self._rests_on}

    def load_state(self, state: Json | None) -> None:
        """Take over a state; one without a choice (of a build before, or of other `weights`) begins with the average."""
        known: Json = state if state is not None and self.is_open else {}
        self._trainer.averaged = self.weights != "raw" and not known.get("live", False)
        self._newest = {name: Comparison(**told) for name, told in known.get("newest", {}).items()}
        self._rests_on = dict(known.get("rests_on", {}))


def _paired(kind: TaskType, sample: Sample, was_HC: Tensor, now_HC: Tensor) -> Paired | None:
    metric = kind.verdict_metric()
    was, now = (kind.row_errors(z_HC, sample.target, metric) for z_HC in (was_HC, now_HC))
    return compare(was.error_H, now, was.answered_H)
