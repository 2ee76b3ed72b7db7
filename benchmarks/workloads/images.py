"""W1, W1s, W2 and W3: Fashion-MNIST by classes, as events without boundaries, for a small CNN, and by pixel orders.

60,000 training and 10,000 test images of 28 x 28 uint8 in 10 classes. The net of W1, W1s and W3 is 784-256-256-10 with
ReLU, that of W2 two blocks of convolution, GroupNorm, ReLU and pooling (32 and 64 channels), then 128-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from mtl_engine.types import Array, TaskSpec
from workloads.base import Phase, Workload, divided
from workloads.sources import fashion, mnist5k

PAIRS = 5
PER_CLASS = 1000  # images of W2
TASK = "images"
MLP: dict[str, Any] = {
    "trunk": {"width": 256, "depth": 2, "norm": "none"},
    "encoder": "mlp",
    "buffer_rows": 500,
    "replay_batch": 32,
}
CNN: dict[str, Any] = {
    **MLP,
    "trunk": {"width": 128, "depth": 1, "norm": "none"},
    "encoder": {"name": "cnn", "channels": [32, 64]},
}


def split_fashion(split: str) -> Workload:
    """W1: five phases of two classes each, one growing head."""
    phases = pairs(*divided(split, *fashion()))
    return Workload((TaskSpec(TASK),), phases, every=50, engine=MLP, bare_net=bare_mlp)


def split_fashion_events(split: str) -> Workload:
    """W1s: the stream of W1 in events of 5 rows; no switch is announced, so a teacher is made every so many steps."""
    return replace(split_fashion(split), event_rows=5, engine={**MLP, "teacher_every": 250})


def split_fashion_cnn(split: str) -> Workload:
    """W2: W1 with a convolutional net and the first 1,000 training images of a class."""
    x, y, xt, yt = divided(split, *fashion())
    first = np.sort(np.concatenate([np.flatnonzero(y == c)[:PER_CLASS] for c in range(10)]))
    phases = pairs(x[first], y[first], xt, yt)
    return Workload(
        (TaskSpec(TASK),), phases, every=20, engine=CNN, eval_rows=500, bare_net=bare_cnn
    )


def permuted_fashion(split: str) -> Workload:
    """W3: all ten classes in five phases, each with a pixel order of its own; one head of 10."""
    x, y, xt, yt = divided(split, *fashion())
    phases = tuple(
        Phase(f"order {k}", TASK, x, y, xt, yt, np.random.default_rng(k).permutation(784))
        for k in range(PAIRS)
    )
    return Workload((TaskSpec(TASK),), phases, every=250, engine=MLP, bare_net=bare_mlp)


def split_mnist5k(split: str) -> Workload:
    """The phases of W1 with 5,000 images of MNIST: a fifteenth of the rows, so every phase is 25 steps long."""
    x, y = mnist5k()
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    test = np.zeros(len(y), np.bool_)
    for label in range(10):
        test[np.flatnonzero(y == label)[400:]] = True
    phases = pairs(*divided(split, x[~test], y[~test], x[test], y[test]))
    return Workload((TaskSpec(TASK),), phases, every=10, engine=MLP, bare_net=bare_mlp)


def pairs(x: Array, y: Array, xt: Array, yt: Array, task: str = TASK) -> tuple[Phase, ...]:
    """Classes 0 and 1, then 2 and 3, and so on."""

    def phase(k: int) -> Phase:
        train_B, test_B = y // 2 == k, yt // 2 == k
        name = f"classes {2 * k} and {2 * k + 1}"
        return Phase(name, task, x[train_B], y[train_B], xt[test_B], yt[test_B])

    return tuple(phase(k) for k in range(PAIRS))


def bare_mlp(trunk: Mapping[str, Any], classes: int) -> nn.Module:
    """784, then `depth` activations of `width`, then the classes."""
    width = trunk["width"]
    layers: list[nn.Module] = []
    for k in range(trunk["depth"]):
        layers += [nn.Linear(width if k else 784, width), *_norm(trunk), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, classes))


def bare_cnn(trunk: Mapping[str, Any], classes: int) -> nn.Module:
    """conv32-conv64-fc128 as the engine's encoder `cnn` with these channels has it."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))]
    for narrow, wide in ((1, 32), (32, 64)):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.GroupNorm(4, wide), nn.ReLU()]
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, trunk["width"])]
    return nn.Sequential(*layers, *_norm(trunk), nn.ReLU(), nn.Linear(trunk["width"], classes))


def _norm(trunk: Mapping[str, Any]) -> list[nn.Module]:
    return [nn.LayerNorm(trunk["width"])] if trunk["norm"] == "layer" else []
