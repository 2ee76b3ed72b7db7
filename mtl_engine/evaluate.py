"""Scores on judge rows: of every task, of every part (a task's rows of one phase), and row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mtl_engine.heldout import HeldOut
from mtl_engine.model import Model
from mtl_engine.paired import RowErrors
from mtl_engine.registry import Registry
from mtl_engine.tasks.base import Scores
from mtl_engine.types import Array, Rows

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
    """A task's judge rows of one phase: their score by the task's primary metric, their ids and errors."""

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

    def part_scores(self) -> dict[str, float]:
        """Scores of the parts where they are defined."""
        return {name: part.score for name, part in self.parts.items() if part.score is not None}


def score(
    held_out: HeldOut,
    registry: Registry,
    model: Model,
    weights: Mapping[str, Tensor],
    tasks: Iterable[str] | None = None,
) -> Scored:
    """Score some tasks (default: all) on their judge rows; those without rows or head are left out."""
    found = Scored()
    for name in held_out.tasks if tasks is None else tasks:
        if not held_out.count(name) or not model.columns(name):
            continue
        sample, kind = held_out.sample(name), registry[name].kind
        z_HC = outputs(model, weights, name, sample.rows)
        found.scores[name] = kind.scores(z_HC, sample.target, of_stream=True)
        found.primary[name] = found.scores[name][kind.primary]
        found.rows[name] = len(sample.phase_H)
        numbers = np.unique(sample.phase_H).tolist()
        for part_name in dict.fromkeys(held_out.part(name, number) for number in numbers):
            same = [number for number in numbers if held_out.part(name, number) == part_name]
            mine = np.flatnonzero(np.isin(sample.phase_H, same))
            z_PC, target = z_HC[torch.from_numpy(mine)], sample.target.take(mine)
            value = kind.scores(z_PC, target, of_stream=True)[kind.primary]
            errors = kind.row_errors(z_PC, target, kind.primary)
            found.parts[part_name] = Part(name, value, sample.id_H[mine], errors)
    return found
