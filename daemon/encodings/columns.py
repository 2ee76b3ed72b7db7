"""Named columns to a payload: the naming rule that tensors, JSON, .npz and .parquet share.

`x` holds the inputs. Labels are `y`, `mask` and `weight` of the event's subject; without a subject they
are `y.<task>`, `mask.<task>` and `weight.<task>`, and the same rows serve several tasks. No `y` = unlabelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.encodings.names import shown, task_name
from daemon.errors import BadEvent
from daemon.types import Labels, Payload

if TYPE_CHECKING:
    from daemon.types import Limits

Column = np.ndarray | list[Any]
MAX_COLUMNS = 256  # x and three columns for each of 85 tasks
MAX_RANK = 8
LABEL_FIELDS = ("y", "mask", "weight")


def payload(columns: Mapping[str, Column], subject: str | None, limits: Limits) -> Payload:
    """The inputs and the labels by task; every column has as many rows as `x`."""
    if "x" not in columns:
        raise BadEvent(
            "missing_x", f"found {shown(sorted(columns))}; a data event needs its inputs as x"
        )
    num_rows = _num_rows("x", columns["x"])
    check_rows(num_rows, limits)
    by_task: dict[str, dict[str, Column]] = {}
    for name, column in columns.items():
        if name == "x":
            continue
        task, field = _place(name, subject)
        if _num_rows(name, column) != num_rows:
            raise BadEvent(
                "length_mismatch",
                f"{name} has {len(column)} rows and x has {num_rows}: send as many",
            )
        by_task.setdefault(task, {})[field] = column
    if subject is None and not by_task:
        raise BadEvent(
            "missing_subject",
            "no subject and no y.<task>: name the task that unlabelled rows belong to",
        )
    return Payload(columns["x"], {task: _labels(task, found) for task, found in by_task.items()})


def check_rows(num_rows: int, limits: Limits) -> None:
    """BadEvent `too_many_rows` above the limit."""
    if num_rows > limits.max_rows:
        raise BadEvent(
            "too_many_rows", f"{num_rows} rows, at most {limits.max_rows}: split the event"
        )


def _place(name: str, subject: str | None) -> tuple[str, str]:
    field, dot, task = name.partition(".")
    if field not in LABEL_FIELDS:
        raise BadEvent("unknown_column", f"{shown(name)}: allowed are x, y, mask and weight")
    if subject is not None and dot:
        raise BadEvent(
            "ambiguous_task",
            f"{shown(name)} beside the subject {subject}: send {field}, or leave the subject out",
        )
    if subject is None and not dot:
        raise BadEvent(
            "missing_subject", f"{field} without a subject: set the subject or send {field}.<task>"
        )
    return (subject, field) if subject is not None else (task_name(task), field)


def _labels(task: str, found: Mapping[str, Column]) -> Labels:
    if "y" not in found:
        raise BadEvent(
            "labels_missing", f"{' and '.join(found)} of {task} without y: leave out or send y too"
        )
    return Labels(found["y"], found.get("mask"), found.get("weight"))


def _num_rows(name: str, column: Column) -> int:
    if isinstance(column, np.ndarray) and not 1 <= column.ndim <= MAX_RANK:
        raise BadEvent("wrong_rank", f"{name} has rank {column.ndim}, allowed are 1 to {MAX_RANK}")
    if len(column) == 0:
        raise BadEvent("empty", f"{name} holds nothing: an event carries at least one row")
    return len(column)
