"""Gradients row by row: of the loss of each of some remembered rows alone, for strategies that consolidate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mtl_engine import batch, rng
from mtl_engine.batch import Joined
from mtl_engine.model import Model
from mtl_engine.registry import Registry
from mtl_engine.replay import Replay
from mtl_engine.strategies.base import Boundary


def boundary(model: Model, registry: Registry, replay: Replay, step: int) -> Boundary:
    """The model as it is after `step` steps."""
    rows = partial(row_gradients, model, registry, replay, step)
    return Boundary(step, dict(model.named_parameters()), rows)


def row_gradients(
    model: Model, registry: Registry, replay: Replay, step: int, most: int
) -> Iterator[Mapping[str, Tensor]]:
    """For each of at most `most` rows: dloss(row)/dw by name, without parameters that it does not reach or that are frozen.

    The loss of a row is the sum over the tasks it has labels of. All rows in memory where they are no more than
    `most`, else as many at random. By autograd and one by one, which works for every encoder.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    slots = [(table, int(s)) for table in replay.tables.values() for s in np.flatnonzero(table.owner_M >= 0)]  # fmt: skip
    chosen = rng.permutation(replay.seed, "row gradients", step, len(slots))[:most]
    for place in np.sort(chosen):
        table, slot = slots[place]
        joined = batch.join(table.name, None, table, np.array([slot]), model.device)
        with torch.enable_grad():
            loss = _loss(model, registry, joined)
            if loss is None or not loss.requires_grad:
                continue
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        yield {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


def _loss(model: Model, registry: Registry, joined: Joined) -> Tensor | None:
    f_BD = model.trunk(model.encode(joined.table, joined.x, joined.length_B))
    total: Tensor | None = None
    for name, table in model.table_of.items():
        columns = model.columns(name)
        if table != joined.table or not columns:
            continue
        task = registry.tasks[name]
        found = batch.members(joined, task, columns, "")
        if found is not None:
            y = torch.from_numpy(found.y).to(model.device)
            weight = None if found.weight is None else torch.from_numpy(found.weight)
            weight = None if weight is None else weight.to(model.device)
            loss = task.kind.loss(model.z(name, f_BD), y, weight)
            total = loss if total is None else total + loss
    return total
