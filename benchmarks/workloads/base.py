"""What a stream is made of: phases of rows with test rows beside them, and how they arrive."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from torch import nn

from mtl_engine.types import Array, Json, TaskSpec

BATCH = 32  # stream rows a step
SPLITS = ("test", "validation")
"""`test` trains on all training rows and scores on test rows; `validation` trains on a part of the training rows
and scores on the rest. Hyper-parameters are chosen on the second one only."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the stream: rows of one task, and rows to score it that are never trained on.

    `pixels` is an order in which every row's values are read, for the same rows seen in several ways. Rows come
    `passes` times, each time in another order.
    """

    name: str
    task: str
    x: Array
    y: Array
    test_x: Array
    test_y: Array
    pixels: Array | None = None
    passes: int = 1

    def __len__(self) -> int:
        """Rows of the stream."""
        return self.passes * len(self.y)

    def order(self, draw: np.random.Generator) -> Array:
        """Rows in the order in which they come."""
        return np.concatenate([draw.permutation(len(self.y)) for _ in range(self.passes)])

    def rows(self, row_B: Array) -> tuple[Any, Any]:
        """Some rows of the stream, as the engine takes them."""
        return _read(self.x[row_B], self.pixels), as_labels(self.y[row_B])

    def test(self, row_B: Array | slice) -> tuple[Any, Any]:
        """Some of the test rows."""
        return _read(self.test_x[row_B], self.pixels), as_labels(self.test_y[row_B])


@dataclass(frozen=True, slots=True)
class Workload:
    """Phases one after the other, and the engine's settings for all strategies.

    `every` steps lie between two evaluations during training, on `eval_rows` fixed test rows a phase. Where
    `event_rows` is set, rows arrive in events of as many and nobody says where a phase begins. `bare_net` makes the net
    of the bare loop from the engine's trunk and the number of classes. `data` says which data it is, where that may differ
    from machine to machine.
    """

    tasks: tuple[TaskSpec, ...]
    phases: tuple[Phase, ...]
    every: int
    engine: Json = field(default_factory=dict[str, Any])
    eval_rows: int = 1000
    event_rows: int | None = None
    bare_net: Callable[[Mapping[str, Any], int], nn.Module] | None = None
    data: Json = field(default_factory=dict[str, Any])


def as_labels(y: Array) -> Any:
    """Labels as the engine takes them: strings in a list."""
    return y if y.dtype.kind in "iu" else y.tolist()


def _read(x: Array, pixels: Array | None) -> Any:
    if pixels is not None:
        return x.reshape(len(x), -1)[:, pixels].reshape(x.shape)
    return x.tolist() if x.dtype.kind == "O" else x


def divided(
    split: str, x: Array, y: Array, xt: Array, yt: Array
) -> tuple[Array, Array, Array, Array]:
    """Training and scoring rows of a split: the test rows, or the last sixth of the training rows."""
    if split == "test":
        return x, y, xt, yt
    last = len(y) - len(y) // 6
    return x[:last], y[:last], x[last:], y[last:]


def parted(split: str, x: Array, y: Array, share: float = 0.2) -> tuple[Array, Array, Array, Array]:
    """Training and scoring rows of a split from data without test rows of its own: `share` of them, drawn at random."""
    order = np.random.default_rng(0).permutation(len(y))
    x, y, cut = x[order], y[order], int(share * len(y))
    return divided(split, x[cut:], y[cut:], x[:cut], y[:cut])


def missing(what: str, install: str) -> NoReturn:
    """End the benchmark: data is not there, and this would bring it."""
    sys.exit(f"{what} not found: {install}")
