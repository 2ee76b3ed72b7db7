"""Scores on judge rows: of every task, of every part (a task's rows of one phase), and row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mtl_engine.heldout import HeldOut, Sample
from mtl_engine.model import Model
from mtl_engine.paired import RowErrors
from mtl_engine.scorecard import brief
from mtl_engine.tasks.base import Scores
from mtl_engine.types import Array, Json, Rows

if TYPE_CHECKING:
    from mtl_engine.trainer import Trainer

_CHUNK = 1024  # rows in one forward


@torch.no_grad()
def outputs(model: Model, weights: Mapping[str, Tensor], task: str, rows: Rows) -> Tensor:
    """Outputs of a task's head for some rows, on the host, without changing anything."""
    parts: list[Tensor] = []
    with model.using(weights):
        for start in range(0, len(rows), _CHUNK):
            part = rows.take(slice(start, start + _CHUNK))
            length_B = (
                None if part.length is None else torch.from_numpy(part.length).to(model.device)
            )
            x = torch.from_numpy(np.ascontiguousarray(part.x)).to(model.device)
            parts.append(model(task, x, length_B).float().cpu())
    return torch.cat(parts)


@dataclass(frozen=True, slots=True)
class Part:
    """A task's judge rows of one phase: their score by the primary metric, and errors by that of verdicts.

    A row's id is its content's hash: a copy with another label is the same row, and contradicts what was known of it.
    """

    task: str
    score: float | None
    id_H: Array
    errors: RowErrors

    @property
    def rows(self) -> int:
        return len(self.id_H)


@dataclass(slots=True)
class Scored:
    """One evaluation of some tasks: all metrics and rows by task, and the parts by name."""

    scores: dict[str, Scores] = field(default_factory=dict[str, Scores])
    primary: dict[str, float | None] = field(default_factory=dict[str, "float | None"])
    rows: dict[str, int] = field(default_factory=dict[str, int])
    parts: dict[str, Part] = field(default_factory=dict[str, Part])
    weights: str = "average"  # or `live`: what was scored
    cards: dict[str, Json] = field(default_factory=dict[str, Json])  # `scorecard.brief` by task

    def part_scores(self) -> dict[str, float]:
        """Scores of the parts where they are defined."""
        return {name: part.score for name, part in self.parts.items() if part.score is not None}


class Answered:
    """What the published weights answer to held-out rows, computed once for a step however many ask."""

    def __init__(self, held_out: HeldOut, trainer: Trainer) -> None:
        self.held_out = held_out
        self.registry = trainer.registry
        self._trainer = trainer
        self._here: tuple[int, int, bool] = (-1, -1, False)
        self._known: dict[tuple[str, str], tuple[Sample, Tensor]] = {}

    def of(self, task: str, kind: str = "judge") -> tuple[Sample, Tensor] | None:
        """A task's rows of one kind and the outputs for them; None without rows or head."""
        return self.all_of([task], kind).get(task)

    def all_of(self, tasks: Iterable[str], kind: str = "judge") -> dict[str, tuple[Sample, Tensor]]:
        """The same for many tasks, of those that have rows and a head; the weights are put into the model once."""
        trainer = self._trainer
        here = (trainer.step_count, self.held_out.changes, trainer.averaged)
        if here != self._here:
            self._here, self._known = here, {}
        there = [t for t in tasks if self.held_out.count(t, kind) and self.has_head(t)]
        missing = [task for task in there if (task, kind) not in self._known]
        with trainer.model.using(trainer.weights() if missing else {}):
            for task in missing:
                sample = self.held_out.sample(task, kind)
                self._known[task, kind] = (sample, outputs(trainer.model, {}, task, sample.rows))
        return {task: self._known[task, kind] for task in there}

    @property
    def weights(self) -> str:
        """Which weights answer: `average` or `live`."""
        return "average" if self._trainer.averaged else "live"

    def has_head(self, task: str) -> bool:
        """Whether the task can be answered at all."""
        return bool(self._trainer.model.columns(task))

    def to(self, task: str, rows: Rows, content_H: Array) -> Tensor:
        """Outputs for rows of the task that may be among its judge rows, which are not computed again: mostly all are."""
        trainer, known = self._trainer, self.of(task)
        if known is None:
            return outputs(trainer.model, trainer.weights(), task, rows)
        sample, z_SC = known
        _, here_N, there_N = np.intersect1d(content_H, sample.content_H, return_indices=True)
        z_HC = z_SC.new_empty(len(rows), z_SC.shape[1])
        z_HC[torch.from_numpy(here_N)] = z_SC[torch.from_numpy(there_N)]
        rest_N = np.setdiff1d(np.arange(len(rows)), here_N)
        if rest_N.size:
            fresh_NC = outputs(trainer.model, trainer.weights(), task, rows.take(rest_N))
            z_HC[torch.from_numpy(rest_N)] = fresh_NC
        return z_HC


def score(answered: Answered, tasks: Iterable[str] | None = None) -> Scored:
    """Score some tasks (default: all) on their judge rows; those without rows or head are left out."""
    scored = Scored(weights=answered.weights)
    known = answered.all_of(answered.held_out.tasks if tasks is None else tasks)
    for name, (sample, z_HC) in known.items():
        kind = answered.registry[name].kind
        scored.scores[name] = kind.scores(z_HC, sample.target, of_stream=True)
        scored.primary[name] = scored.scores[name][kind.primary]
        scored.rows[name] = len(sample.phase_H)
        scored.cards[name] = brief(kind, z_HC, sample.target)
        scored.parts |= _parts(answered, name, sample, z_HC, scored.primary[name])
    return scored


def _parts(
    answered: Answered, name: str, sample: Sample, z_HC: Tensor, score_of_all: float | None
) -> dict[str, Part]:
    """A task's rows by phase; phases of one name are one part."""
    kind, part_of = answered.registry[name].kind, answered.held_out.part
    numbers = np.unique(sample.phase_H).tolist()
    parts: dict[str, Part] = {}
    for part in dict.fromkeys(part_of(name, number) for number in numbers):
        same = [number for number in numbers if part_of(name, number) == part]
        mine = np.flatnonzero(np.isin(sample.phase_H, same))
        z_PC, target, value = z_HC, sample.target, score_of_all
        if len(mine) < len(z_HC):
            z_PC, target = z_HC[torch.from_numpy(mine)], target.take(mine)
            value = kind.scores(z_PC, target, of_stream=True)[kind.primary]
        errors = kind.row_errors(z_PC, target, kind.verdict_metric())
        parts[part] = Part(name, value, sample.content_H[mine], errors)
    return parts
