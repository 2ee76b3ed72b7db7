"""Task kinds by themselves, with labels and outputs made for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtl_engine.components import build
from mtl_engine.tasks import TASKS
from mtl_engine.tasks.base import TaskType
from mtl_engine.types import Target
from tests.support.engines import task

ROWS = 12


def kind_of(name: str, **more: Any) -> TaskType:
    return build(TASKS, name, "task kind", spec=task("a", name, **more))


def accepted(kind: TaskType, y: Any, mask: Any = None, weight: Any = None) -> Target:
    """Labels that went the way of a stream row: checked, admitted, observed."""
    n = ROWS if y is None else len(y)
    target, fresh = kind.check(y, mask, weight, n)
    kind.admit(target, fresh)
    kind.observe(target)
    return target


def on_device(kind: TaskType, target: Target) -> tuple[Tensor, Tensor | None]:
    y = torch.from_numpy(target.y.astype(kind.y_dtype))
    return y, None if target.weight is None else torch.from_numpy(target.weight)


def outputs(kind: TaskType, target: Target, size: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(len(target.y), kind.needed(target), generator=generator) * size
