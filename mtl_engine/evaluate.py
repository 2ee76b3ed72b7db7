"""Hold-outs and what is computed from them: scores, the accuracy matrix, forgetting and transfer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine import rng
from mtl_engine.columns import Place
from mtl_engine.model import Model
from mtl_engine.policies.balanced import Balanced
from mtl_engine.registry import Registry, Task
from mtl_engine.replay_table import ReplayTable, no_outputs
from mtl_engine.tasks.base import Scores, TaskType, finite
from mtl_engine.types import Array, Json, Rows, Target

HELD_OUT_ROWS = 500  # of one task, at most
MATRIX_ROWS = 256  # rows of the accuracy matrix kept, the newest
_PHASES = 100  # phases of one task that are scored apart; later ones count as the last
_CHUNK = 1024  # rows in one forward
_PHASE = "@phase"  # beside a held-out row's labels: in which phase of its task it came
_STEP = "@step"  # and after how many steps of training


@torch.no_grad()
def outputs(model: Model, weights: Mapping[str, Tensor], task: str, rows: Rows) -> Tensor:
    """Outputs of a task's head for some rows, on the host, without changing anything."""
    found: list[Tensor] = []
    with model.using(weights):
        for start in range(0, len(rows), _CHUNK):
            part = rows.take(slice(start, start + _CHUNK))
            length_B = (
                None if part.length is None else torch.from_numpy(part.length).to(model.device)
            )
            x = torch.from_numpy(np.ascontiguousarray(part.x)).to(model.device)
            found.append(model(task, x, length_B).float().cpu())
    return torch.cat(found)


class HeldOut:
    """Rows never trained on: a uniform sample of every class of every task, each with the phase it came in."""

    def __init__(self, registry: Registry, seed: int) -> None:
        self._registry = registry
        self._seed = seed
        self.tables: dict[str, ReplayTable] = {}
        self.phases: dict[str, list[str | None]] = {}
        self._known: tuple[int, dict[str, Scores], dict[str, float]] | None = None  # of one step

    def keep(self, rows: Rows, step: int) -> None:
        """Keep the labelled ones among some rows, and at which step of the training."""
        self._known = None
        for name, target in rows.targets.items():
            labelled = np.flatnonzero(target.labelled())
            if labelled.size:
                task = self._registry.tasks[name]
                phase = np.full(len(labelled), max(len(self.phases.get(name, ())) - 1, 0), np.int32)
                mine = rows.take(labelled)
                self._keep(
                    task,
                    Rows(
                        mine.table,
                        mine.x,
                        mine.length,
                        {
                            name: mine.targets[name],
                            _PHASE: Target(phase),
                            _STEP: Target(np.full_like(phase, step)),
                        },
                    ),
                )

    def _keep(self, task: Task, rows: Rows) -> None:
        name = task.spec.name
        if name not in self.tables:
            self.tables[name] = self._made(name)
        table = self.tables[name]
        offered = int(table.slots.seen_G.sum())
        uniform_B = rng.uniform(self._seed, f"holdout:{name}", 0, len(rows), start=offered)
        owner_B = np.full(len(rows), task.number, np.int64)
        table.offer(rows, owner_B, task.kind.group_B(rows.targets[name]), uniform_B, no_outputs)

    def _made(self, name: str) -> ReplayTable:
        return ReplayTable(
            f"holdout:{name}", HELD_OUT_ROWS, Balanced(), self._seed, Place(torch.device("cpu"))
        )

    def enter(self, task: str, phase: str | None) -> None:
        """Rows of `task` kept from now on belong to `phase`."""
        self._known = None
        names = self.phases.setdefault(task, [])
        if (not names or names[-1] != phase) and len(names) < _PHASES:
            names.append(phase)

    def rows(self, name: str) -> tuple[Rows, Target, Array]:
        """A task's held-out rows, their labels, and the phase of each."""
        table = self.tables[name]
        slot_H = table.slots.used()
        x, length_H, targets = table.batch(slot_H)
        return Rows(name, x.numpy(), length_H), targets[name], targets[_PHASE].y

    def select_rows(self, name: str) -> tuple[Rows, Target] | None:
        """Rows to choose by: every other one; None where there is none."""
        return self._every_other(name, 0)

    def judge_rows(self, name: str) -> tuple[Rows, Target] | None:
        """Rows to judge by what was chosen: the others."""
        return self._every_other(name, 1)

    def _every_other(self, name: str, first: int) -> tuple[Rows, Target] | None:
        if name not in self.tables:
            return None
        rows, target, _ = self.rows(name)
        part = slice(first, None, 2)
        return rows.take(part), target.take(part)

    def remove_task(self, name: str) -> None:
        self._known = None
        self.tables.pop(name, None)
        self.phases.pop(name, None)

    def scores(
        self, model: Model, weights: Mapping[str, Tensor], step: int
    ) -> tuple[dict[str, Scores], dict[str, float]]:
        """All metrics by task, and the primary one by part (a task's rows of one phase) where it is defined.

        Asked again at the same step it does not compute them again.
        """
        if self._known is None or self._known[0] != step:
            self._known = (step, *self._scores(model, weights))
        return self._known[1], self._known[2]

    def _scores(
        self, model: Model, weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Scores], dict[str, float]]:
        whole: dict[str, Scores] = {}
        parts: dict[str, float] = {}
        for name in self.tables:
            if not model.columns(name):
                continue
            rows, target, phase_H = self.rows(name)
            kind = self._registry.tasks[name].kind
            z_HC = outputs(model, weights, name, rows)
            whole[name] = kind.scores(z_HC, target)
            for number in np.unique(phase_H).tolist():
                mine = np.flatnonzero(phase_H == number)
                score = kind.scores(z_HC[torch.from_numpy(mine)], target.take(mine))[kind.primary]
                if score is not None:
                    parts[self._part(name, number)] = score
        return whole, parts

    def contest(
        self,
        model: Model,
        weights: Mapping[str, Tensor],
        rival: Model,
        kinds: Mapping[str, TaskType],
        step: int,
    ) -> dict[str, Json]:
        """Primary scores of this model and a rival on the rows kept up to `step`, for every task that both know.

        Classes that the rival does not know are left out of both answers: a task that has grown since is not worse
        for it. Rows kept later say nothing, so what comes with bad rows cannot speak for itself.
        """
        found: dict[str, Json] = {}
        for name, table in self.tables.items():
            if name not in kinds or not rival.columns(name) or not model.columns(name):
                continue
            rows, target, _ = self.rows(name)
            slot_H = table.slots.used()
            old_H = np.flatnonzero(table.targets[_STEP].y[slot_H] <= step)
            if not old_H.size:
                continue
            rows, target = rows.take(old_H), target.take(old_H)
            kind, other = self._registry.tasks[name].kind, kinds[name]
            mine_HC = kind.among(outputs(model, weights, name, rows), other)
            theirs_HC = kind.read(outputs(rival, {}, name, rows), other)
            found[name] = {
                "score": kind.scores(mine_HC, target)[kind.primary],
                "rival": kind.scores(theirs_HC, target)[kind.primary],
                "rows": len(old_H),
            }
        return found

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Rows by task, and by part."""
        whole: dict[str, int] = {}
        parts: dict[str, int] = {}
        for name in self.tables:
            _, _, phase_H = self.rows(name)
            whole[name] = len(phase_H)
            for number, count in zip(*np.unique(phase_H, return_counts=True), strict=True):
                parts[self._part(name, int(number))] = int(count)
        return whole, parts

    def _part(self, name: str, number: int) -> str:
        names = self.phases.get(name, [])
        phase = names[number] if number < len(names) else None
        return name if phase is None else f"{name}/{phase}"

    def state(self) -> tuple[Json, dict[str, Any]]:
        meta: Json = {
            "phases": {name: list(names) for name, names in self.phases.items()},
            "tables": {},
        }
        arrays: dict[str, Any] = {}
        for name, table in self.tables.items():
            meta["tables"][name], mine = table.state()
            arrays |= {f"{name}.{key}": value for key, value in mine.items()}
        return meta, arrays

    def segments(self) -> dict[str, tuple[int, dict[str, Tensor]]]:
        return {
            f"{name}.{key}": segment
            for name, table in self.tables.items()
            for key, segment in table.segments().items()
        }

    def load_state(
        self, meta: Json, arrays: Mapping[str, Any], segments: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._known = None
        self.phases = {name: list(names) for name, names in meta["phases"].items()}
        self.tables = {}
        for name, found in meta["tables"].items():
            table = self._made(name)
            parts = {
                key[len(name) + 1 :]: part
                for key, part in segments.items()
                if key.startswith(f"{name}.")
            }
            mine = {
                key[len(name) + 1 :]: value
                for key, value in arrays.items()
                if key.startswith(f"{name}.")
            }
            table.load_state(found, mine, parts)
            self.tables[name] = table


class Matrix:
    """The accuracy matrix: a row of scores at the end of every phase, and the numbers the literature draws from it.

    They are taken over parts (a task's rows of one phase), each scored with its task's primary metric:
    average accuracy = mean over parts at the end; forgetting = mean over older parts of their best score
    before the end minus the last; BWT = mean of the last score minus the first (Lopez-Paz and Ranzato 2017,
    arXiv 1706.08840; Chaudhry et al. 2018, arXiv 1801.10112); min-ACC = the lowest score of a part in any row
    (De Lange et al. 2023, arXiv 2205.13452).
    """

    def __init__(self) -> None:
        self.rows: list[Json] = []

    def add(self, row: Json) -> None:
        self.rows = [*self.rows, row][-MATRIX_ROWS:]

    def load_state(self, rows: Iterable[Json]) -> None:
        """Take over saved rows; where an earlier version saved a score that is no number, there is none."""
        self.rows = [
            {**row, "scores": finite(row["scores"]), "parts": _defined(row["parts"])}
            for row in rows
        ]

    def report(self, last: Json | None = None) -> Json:
        """All rows and the numbers; `last` is a row for the present, not kept."""
        rows = self.rows if last is None else [*self.rows, last]
        if not rows:
            return {
                "rows": [], "average_accuracy": None, "forgetting": None, "bwt": None, "best": {}, "min_acc": {}
            }  # fmt: skip
        end: dict[str, float] = rows[-1]["parts"]
        earlier = {
            part: [row["parts"][part] for row in rows[:-1] if part in row["parts"]] for part in end
        }
        older = [part for part in end if earlier[part]]
        return {
            "rows": rows,
            "average_accuracy": _mean([end[part] for part in end]),
            "forgetting": _mean([max(earlier[part]) - end[part] for part in older]),
            "bwt": _mean([end[part] - earlier[part][0] for part in older]),
            "best": {part: max([*earlier[part], end[part]]) for part in end},
            "min_acc": {part: min([*earlier[part], end[part]]) for part in end},
        }


def _defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in finite(metrics).items() if value is not None}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
