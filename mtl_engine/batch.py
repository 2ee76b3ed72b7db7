"""Joins stream rows and a replay draw of one input table into one batch, and finds every task's rows in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mtl_engine.columns import on, taken
from mtl_engine.errors import EngineError
from mtl_engine.losses import clipped
from mtl_engine.model import Model
from mtl_engine.registry import Task
from mtl_engine.replay_table import Outputs, ReplayTable
from mtl_engine.strategies.base import Stored, TaskStep
from mtl_engine.types import Array, Rows, Target

_FP16_LIMIT = 60_000.0  # below float16's largest number, 65,504


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows of one table in a step: the stream's first, then the replayed ones."""

    table: str
    x: Tensor
    length_B: Tensor | None
    stream: Rows | None
    num_stream: int
    memory: dict[str, Target]
    slot_M: Array

    def __len__(self) -> int:
        return self.num_stream + len(self.slot_M)


@dataclass(frozen=True, slots=True)
class Members:
    """A task's rows of a joined batch; `row_B` None = all of them, in order."""

    row_B: Array | None
    num_stream: int
    y: Array
    weight: Array | None
    stream_y: Array  # of labelled rows only
    memory_y: Array
    memory_M: Array | None  # which replayed rows, positions in `slot_M`; None = all of them


def by_table(blocks: Sequence[Rows]) -> dict[str, Rows]:
    """The stream rows of a step, those of a table one after the other."""
    found: dict[str, list[Rows]] = {}
    for block in blocks:
        if len(block):
            found.setdefault(block.table, []).append(block)
    if not found:
        raise EngineError("a step needs at least one stream row: found none")
    return {table: Rows.concat(parts) for table, parts in found.items()}


def join(
    table: str, stream: Rows | None, memory: ReplayTable | None, slot_M: Array, model: Model
) -> Joined:
    """Rows as the model's encoder of their table takes them, on its device; at least one."""
    x: Array | Tensor | None = None if stream is None else stream.x
    lengths = [] if stream is None or stream.length is None else [stream.length]
    targets: dict[str, Target] = {}
    if memory is not None and len(slot_M):
        x, length_M, targets = memory.batch(slot_M, x)
        lengths += [] if length_M is None else [length_M]
    host = x if isinstance(x, Tensor) else torch.from_numpy(x)
    length_B = on(torch.from_numpy(np.concatenate(lengths)), model.device) if lengths else None
    return Joined(
        table,
        model.decode(table, on(host, model.device), length_B),
        length_B,
        stream,
        0 if stream is None else len(stream),
        targets,
        slot_M,
    )


def members(joined: Joined, task: Task, columns: int, unlabelled: str) -> Members | None:
    """The rows of `task`, or None when it has none here.

    `unlabelled` names the stream rows without a label of the task that are wanted too: "" none, "all" those
    without a label of any task, "stream" every one.
    """
    given = joined.stream.targets.get(task.spec.name) if joined.stream is not None else None
    kept = joined.memory.get(task.spec.name)
    dtype = task.kind.y_dtype
    if _whole(joined, given, kept):
        parts = [t.y for t in (given, kept) if t is not None]
        y = (
            np.concatenate(parts, dtype=dtype, casting="unsafe")
            if len(parts) > 1
            else parts[0].astype(dtype)
        )
        s = joined.num_stream
        return Members(None, s, y, None, y[:s], y[s:], None)
    stream_t = (given or _missing(task, joined.num_stream)).padded(columns)
    memory_t = (kept or _missing(task, len(joined.slot_M))).padded(columns)
    labelled_S = stream_t.labelled()
    wanted_S = labelled_S | _unlabelled(joined, unlabelled)
    stream_S, memory_M = np.flatnonzero(wanted_S), np.flatnonzero(memory_t.labelled())
    if not len(stream_S) + len(memory_M):
        return None
    weight = np.concatenate([stream_t.ones()[stream_S], memory_t.ones()[memory_M]])
    y = np.concatenate([stream_t.y[stream_S], memory_t.y[memory_M]], dtype=dtype, casting="unsafe")
    row_B = np.concatenate([stream_S, joined.num_stream + memory_M])
    return Members(
        None if len(row_B) == len(joined) else row_B,
        len(stream_S),
        y,
        None if bool((weight == 1).all()) else weight,
        stream_t.y[labelled_S],
        memory_t.y[memory_M],
        memory_M,
    )


def num_used(joined: Joined, rows: Sequence[Array | None]) -> int:
    """Rows that some task trains on, of the rows of each; one that none does must not make the step smaller."""
    partial = [row_B for row_B in rows if row_B is not None]
    if len(partial) < len(rows):
        return len(joined)
    return int(np.unique(np.concatenate([np.zeros(0, np.int64), *partial])).size)


def stored(table: ReplayTable, task: str, slot_M: Array, columns: int) -> Stored | None:
    """Outputs stored with some slots; None when there are none."""
    kept = table.outputs.get(task)
    if kept is None or not len(slot_M):
        return None
    columns = min(columns, kept.z.shape[1])
    valid: Array = _first(columns).take(kept.width.take(slot_M), 0, mode="clip")
    entries = int(np.vdot(valid, valid))
    whole = entries == columns * len(slot_M)
    valid_MC = None if whole else on(torch.from_numpy(valid), table.place.device)
    z_MC = on(taken(kept.z, slot_M), table.place.device)
    return Stored(z_MC if z_MC.shape[1] == columns else z_MC[:, :columns], valid_MC, entries)


@lru_cache(maxsize=64)
def _first(columns: int) -> Array:
    """In row w the first w columns are 1, the others 0."""
    return np.tri(columns + 1, columns, -1, np.float32)


def kept_outputs(joined: Joined, task: TaskStep, row_N: Array) -> Outputs:
    """A task's outputs for some stream rows before the update, in the units and dtype they are kept in; width 0 = none."""
    at_N = row_N
    if task.rows is not None:
        at_S = np.full(joined.num_stream, -1)
        at_S[task.rows[: task.num_stream]] = np.arange(task.num_stream)
        at_N = at_S[row_N]
    z_NC = task.kind.raw(taken(task.z_BC.detach().float(), at_N))
    dtype = task.kind.stored_dtype
    z_NC = _half(z_NC) if dtype == torch.float16 else z_NC.to(dtype)
    width_N = np.full(len(at_N), z_NC.shape[1], np.int32)
    if task.rows is not None:
        width_N[at_N < 0] = 0
    return Outputs(z_NC, width_N)


def _half(z_NC: Tensor) -> Tensor:
    """In float16, in which nothing becomes infinite."""
    if not z_NC.is_cpu:
        return z_NC.clamp(-_FP16_LIMIT, _FP16_LIMIT).half()
    return torch.from_numpy(clipped(z_NC.numpy(), _FP16_LIMIT).astype(np.float16))


def owners(rows: Rows, tasks: dict[str, Task]) -> tuple[Array | int, Array]:
    """The number of the task that all rows or each row (-1 = no label) is kept for, its first labelled one, and the class."""
    if len(rows.targets) == 1:
        [(name, target)] = rows.targets.items()
        if target.weight is None:
            return tasks[name].number, tasks[name].kind.group_B(target)
    owner_B, class_B = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.int64)
    for name, target in reversed(list(rows.targets.items())):
        task = tasks[name]
        if target.weight is None:
            owner_B[:], class_B = task.number, task.kind.group_B(target)
        else:
            mine = target.labelled()
            owner_B[mine] = task.number
            class_B[mine] = task.kind.group_B(target)[mine]
    return owner_B, class_B


def _whole(joined: Joined, given: Target | None, kept: Target | None) -> bool:
    """Every row of the batch is labelled for the task with weight 1: the usual case, and the fast one."""
    if joined.stream is not None and (given is None or given.weight is not None):
        return False
    return not len(joined.slot_M) or (kept is not None and kept.weight is None)


def _unlabelled(joined: Joined, wanted: str) -> Array:
    if wanted == "stream":
        return np.ones(joined.num_stream, np.bool_)
    if wanted == "all" and joined.stream is not None:
        return ~joined.stream.labelled()
    return np.zeros(joined.num_stream, np.bool_)


def _missing(task: Task, n: int) -> Target:
    """`n` rows without a label of the task, in the shape its kind has."""
    return task.kind.check(None, None, None, n)[0]


def all_kept(joined: Joined, tasks: Mapping[str, TaskStep], row_N: Array) -> dict[str, Outputs]:
    """`kept_outputs` of every task."""
    return {name: kept_outputs(joined, task, row_N) for name, task in tasks.items()}
