"""Gradients row by row: of the loss of each of some remembered rows alone, for strategies that consolidate."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mtl_engine import batch, rng
from mtl_engine.batch import Joined
from mtl_engine.model import Model
from mtl_engine.registry import Registry
from mtl_engine.replay import Replay
from mtl_engine.replay_table import ReplayTable
from mtl_engine.strategies.base import Boundary
from mtl_engine.types import Array


def boundary(model: Model, registry: Registry, replay: Replay, step: int) -> Boundary:
    """The model as it is after `step` steps."""
    rows = partial(row_gradients, model, registry, replay, step)
    return Boundary(step, dict(model.named_parameters()), rows)


def row_gradients(
    model: Model, registry: Registry, replay: Replay, step: int, most: int
) -> Iterator[Mapping[str, Tensor]]:
    """For each of at most `most` rows: dloss(row)/dw by name, without parameters that it does not reach or that are frozen.

    The loss of a row is the sum over the tasks it has labels of. All rows in memory where they are no more than
    `most`, else one at random of each of as many equal parts. By autograd, one by one: so it works for every encoder.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for table, slot_1 in _chosen(replay, step, most):
        joined = batch.join(table.name, None, table, slot_1, model)
        with torch.enable_grad():
            loss = _loss(model, registry, joined)
            if not loss.requires_grad:
                continue  # a row of frozen parameters alone
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        gradients = cast("Sequence[Tensor | None]", found)
        yield {n: g for n, g in zip(parameters, gradients, strict=True) if g is not None}


def _chosen(replay: Replay, step: int, most: int) -> Iterator[tuple[ReplayTable, Array]]:
    """Tables and occupied slots, each in an array of its own."""
    tables = list(replay.tables.values())
    used = [table.slots.used() for table in tables]
    ends = list(accumulate(len(slot_N) for slot_N in used))
    n = ends[-1] if ends else 0
    cuts = np.arange(min(n, most) + 1) * n // max(min(n, most), 1)
    u = rng.uniform(replay.seed, "row gradients", step, len(cuts) - 1)
    places = cuts[:-1] + (u * np.diff(cuts)).astype(np.int64)
    for place in map(int, places):
        k = bisect_right(ends, place)
        at = place - ends[k] + len(used[k])
        yield tables[k], used[k][at : at + 1]


def _loss(model: Model, registry: Registry, joined: Joined) -> Tensor:
    f_BD = model.trunk(model.encode(joined.table, joined.x, joined.length_B))
    total = f_BD.new_zeros(())
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
            total = total + loss
    return total
