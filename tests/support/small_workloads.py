"""Workloads of the benchmarks in small: made of bright rows instead of real images, learned in a second."""

from __future__ import annotations

import numpy as np
from workloads.base import Phase, Workload
from workloads.images import MLP, bare_mlp, pairs

from mtl_engine.types import TaskSpec

ENGINE = {**MLP, "buffer_rows": 60, "num_threads": 1, "optimizer": {"name": "sgd", "lr": 0.1}}


def images(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """28x28 images whose class is the bright row."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 10, num_rows)
    x = draw.integers(0, 64, (num_rows, 28, 28), dtype=np.uint8)
    x[np.arange(num_rows), 2 * y] = 255
    return x, y.astype(np.int64)


def split(event_rows: int | None = None) -> Workload:
    """Five phases of two classes, as W1."""
    phases = pairs(*images(2000, 0), *images(300, 1))
    return Workload(
        (TaskSpec("images"),), phases, 3, ENGINE, 20, event_rows=event_rows, bare_net=bare_mlp
    )


def permuted() -> Workload:
    """The same classes in two pixel orders, as W3."""
    x, y = images(320, 0)
    xt, yt = images(200, 1)
    phases = tuple(
        Phase(str(k), "images", x, y, xt, yt, np.random.default_rng(k).permutation(784))
        for k in range(2)
    )
    return Workload((TaskSpec("images"),), phases, 5, ENGINE, 50)
