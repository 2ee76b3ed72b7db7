"""Accuracy at the ends of phases and during training, and the numbers that the literature draws from them.

a[t, k] is the accuracy (of numbers: R2, at least 0) in percent on the test rows of phase k after phase t, T the number of phases.

- accuracy = mean over k of a[T, k]
- forgetting = mean over k < T of max over k <= t < T of a[t, k], minus a[T, k] (Chaudhry et al. 2018, arXiv 1801.10112)
- BWT = mean over k < T of a[T, k] - a[k, k] (Lopez-Paz and Ranzato 2017, arXiv 1706.08840)
- FWT = mean over k > 1 of a[k-1, k] - b[k] (the same), where b[k] is what an untrained net scores that has the columns
  which the head has by then. A head without columns, and a class without one, scores 0 in both: a stream in which every
  phase brings classes of its own has a forward transfer of 0.
- min-ACC = mean over k < T of the lowest accuracy on phase k at any evaluation after phase k ended
- WC-ACC = A(T) / T + (1 - 1 / T) min-ACC, where A(T) is the last accuracy on the last phase
  (De Lange et al. 2023, arXiv 2205.13452); both from evaluations every few steps, on a fixed part of the test rows
- new = mean over k of a[k, k], old = mean over k < T of a[T, k]: what a method trades against each other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from workloads.base import Workload

from mtl_engine.engine import Engine
from mtl_engine.tasks.base import Scores
from mtl_engine.types import Array, Json, TaskSpec

NUMBERS = ("accuracy", "forgetting", "bwt", "fwt", "min_acc", "wc_acc", "new", "old")
CHUNK = 1000  # rows scored at once; an event has a limit, and so has a text's


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy of every phase during training; None before a phase began. `ends[k]` is the step after which it was over."""

    step: list[int] = field(default_factory=list[int])
    accuracy: list[list[float | None]] = field(default_factory=list[list[float | None]])
    ends: list[int] = field(default_factory=list[int])

    def to_json(self) -> Json:
        accuracy = [[None if a is None else round(a, 1) for a in row] for row in self.accuracy]
        return {"step": self.step, "accuracy": accuracy, "ends": self.ends}


class Examiner:
    """Scores an engine on a workload's test rows; nothing of the engine changes by it."""

    def __init__(self, workload: Workload) -> None:
        self.phases = workload.phases
        draw = np.random.default_rng(0)
        self._part = [draw.permutation(len(p.test_y))[: workload.eval_rows] for p in self.phases]

    def whole(self, engine: Engine, number: int) -> float:
        """Accuracy in percent on all test rows of a phase."""
        return self._score(engine, number, np.arange(len(self.phases[number].test_y)))

    def part(self, engine: Engine, number: int) -> float:
        """The same on the fixed part of them."""
        return self._score(engine, number, self._part[number])

    def _score(self, engine: Engine, number: int, row_B: Array) -> float:
        phase = self.phases[number]
        if not _columns(engine, phase.task):
            return 0.0
        right = 0.0
        for start in range(0, len(row_B), CHUNK):
            rows = row_B[start : start + CHUNK]
            right += len(rows) * _share(engine.evaluate(phase.task, *phase.test(rows)))
        return 100 * right / len(row_B)


def untrained(workload: Workload, settings: Json) -> list[float]:
    """b[k] for every k > 0: an engine as it is before its first update, with the columns the head has before phase k."""
    examiner = Examiner(workload)
    found: list[float] = []
    for number in range(1, len(workload.phases)):
        phase = workload.phases[number]
        before = [p for p in workload.phases[:number] if p.task == phase.task]
        labels = list(dict.fromkeys(label for p in before for label in np.unique(p.y).tolist()))
        if not before or not set(np.unique(phase.test_y).tolist()) & set(labels):
            found.append(0.0)
            continue
        engine = Engine(**{**settings, "optimizer": {"name": "sgd", "lr": 0.0}})
        spec = next(spec for spec in workload.tasks if spec.name == phase.task).to_dict()
        engine.add_task(TaskSpec.from_dict({**spec, "classes": labels}))
        row_B = np.arange(min(32, len(before[0])))
        engine.observe(phase.task, *before[0].rows(row_B))  # the head appears; nothing moves
        found.append(examiner.whole(engine, number))
    return found


def numbers(matrix: Array, untrained_k: Sequence[float], curve: Curve) -> dict[str, float | None]:
    """The numbers of this module's docstring; None where there is but one phase or none ended before the last.

    `matrix` [T, T] has a[t, k], NaN where it was not taken.
    """
    last = len(matrix) - 1
    found: dict[str, float | None] = dict.fromkeys(NUMBERS)
    found["accuracy"] = float(matrix[last].mean())
    if len(curve.ends) < 2:
        return found
    best_k = np.nanmax(np.where(np.tri(last, dtype=bool), matrix[:last, :last], np.nan), 0)
    found["forgetting"] = float(np.mean(best_k - matrix[last, :last]))
    found["new"] = float(np.diag(matrix).mean())
    found["old"] = float(matrix[last, :last].mean())
    found["bwt"] = float(np.mean(matrix[last, :last] - np.diag(matrix)[:last]))
    found["fwt"] = float(np.mean(np.diag(matrix, 1) - np.asarray(untrained_k)))
    step_N, accuracy_NK = np.array(curve.step), np.array(curve.accuracy, float)
    lowest = [float(accuracy_NK[step_N > curve.ends[k], k].min()) for k in range(last)]
    found["min_acc"] = float(np.mean(lowest))
    found["wc_acc"] = (
        float(accuracy_NK[-1, last]) / (last + 1) + (1 - 1 / (last + 1)) * found["min_acc"]
    )
    return found


def _share(scores: Scores) -> float:
    """Accuracy, or for numbers R2, and nothing below 0."""
    known = scores["accuracy"] if "accuracy" in scores else scores["r2"]
    return max(0.0, known or 0.0)


def _columns(engine: Engine, task: str) -> int:
    described: list[dict[str, Any]] = engine.describe()["tasks"]
    return next(one["columns"] for one in described if one["name"] == task)
