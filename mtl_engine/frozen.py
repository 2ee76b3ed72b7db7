"""Judge rows frozen with a snapshot: what the gate compares later models on, row by row, however far the stream has gone.

The hold-outs of today thin out as rows of yesterday are replaced; these do not. They hold the errors of the snapshot's own
model, so that it need not be loaded again, and what it knew: classes that came later are not held against a later model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtl_engine.evaluate import Answered, outputs
from mtl_engine.heldout import HeldOut
from mtl_engine.model import Model
from mtl_engine.paired import Paired, compare
from mtl_engine.registry import Registry
from mtl_engine.types import Array, Json, Rows, Target


@dataclass(frozen=True, slots=True)
class FrozenTask:
    """One task's rows [H] with the errors of a model, what a row stands for, and the metric they are errors of."""

    number: int  # of the task; another one of the same name is another task
    metric: str
    known: Json  # what the model could answer, as the task's kind tells it
    rows: Rows
    target: Target
    error_H: Array
    weight_H: Array
    content_H: Array  # the rows' hashes
    answered_H: Array | None = None  # as in `RowErrors`

    def __len__(self) -> int:
        return len(self.error_H)

    def to_arrays(self) -> tuple[dict[str, Array], Json]:
        """Arrays by name and the JSON beside them, for a checkpoint."""
        arrays, told = replace(self.rows, targets={"": self.target}).to_arrays()
        arrays |= {"error": self.error_H, "row_weight": self.weight_H, "content": self.content_H}
        if self.answered_H is not None:
            arrays["answered"] = self.answered_H
        meta = {"number": self.number, "metric": self.metric, "known": self.known, "rows": told}
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> FrozenTask:
        rows = Rows.from_arrays(arrays, meta["rows"])
        return cls(
            int(meta["number"]), str(meta["metric"]), dict(meta["known"]), replace(rows, targets={}),
            rows.targets[""], arrays["error"], arrays["row_weight"], arrays["content"], arrays.get("answered"),
        )  # fmt: skip


def freeze(answered: Answered) -> dict[str, FrozenTask]:
    """Every task's judge rows as they are now, with the errors of the weights that would be published now."""
    frozen: dict[str, FrozenTask] = {}
    for name in answered.held_out.tasks:
        known = answered.of(name)
        if known is not None:
            (sample, z_HC), task = known, answered.registry[name]
            metric = task.kind.verdict_metric()
            errors = task.kind.row_errors(z_HC, sample.target, metric)
            frozen[name] = FrozenTask(
                task.number, metric, task.kind.known(), sample.rows, sample.target,
                errors.error_H, errors.weight_H, sample.content_H, errors.answered_H,
            )  # fmt: skip
    return frozen


def freeze_rival(
    held_out: HeldOut, registry: Registry, rival: Model, of_rival: Registry, step: int
) -> dict[str, FrozenTask]:
    """The same for a snapshot that no rows were frozen with: those of today's judge rows that were kept up to its `step`."""
    found: dict[str, FrozenTask] = {}
    for name in held_out.tasks:
        form = of_rival.form(name)
        if form is None or form != registry.form(name) or not rival.columns(name):
            continue
        sample, task, other = held_out.sample(name), registry[name], of_rival[name].kind
        sample = sample.take(np.flatnonzero(sample.step_H <= step))
        if not len(sample.content_H):
            continue
        metric = task.kind.verdict_metric()
        z_HC = task.kind.read(outputs(rival, {}, name, sample.rows), other)
        errors = task.kind.row_errors(z_HC, sample.target, metric)
        found[name] = FrozenTask(
            task.number, metric, other.known(), sample.rows,
            task.kind.renamed(sample.target, task.kind.known(), other.known()),
            errors.error_H, errors.weight_H, sample.content_H, errors.answered_H,
        )  # fmt: skip
    return found


def meet(frozen: FrozenTask, name: str, answered: Answered) -> Paired | None:
    """The present weights against those that rows were frozen with; None if the task is another one now, or has other rows."""
    task = answered.registry.tasks.get(name)
    if task is None or task.number != frozen.number or task.table != frozen.rows.table:
        return None
    if not answered.has_head(name) or not len(frozen):
        return None
    kind = task.kind
    z_HC = kind.among(answered.to(name, frozen.rows, frozen.content_H), frozen.known)
    target = kind.renamed(frozen.target, frozen.known, kind.known())
    now = kind.row_errors(z_HC, target, frozen.metric)
    now = replace(now, weight_H=frozen.weight_H)
    return compare(frozen.error_H, now, frozen.answered_H)
