"""Small engines and their rows for the suites of the engine: quick to make, and compared bit by bit."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mtl_engine.engine import Engine
from mtl_engine.state import EngineState, Segment
from mtl_engine.types import KINDS, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtl_engine.trainer import Trainer

WIDTH = 6  # features of a row
_CENTRES = np.random.default_rng(11).standard_normal((64, WIDTH)).astype(np.float32) * 2


def engine(strategy: Any = "er", **settings: Any) -> Engine:
    """An engine that steps in about a millisecond; nothing is left to what a strategy recommends."""
    small: dict[str, Any] = {
        "weights": "raw",
        "optimizer": {"name": "sgd", "lr": 0.1},
        "buffer_rows": 24,
        "replay_batch": 6,
        "trunk": {"width": 16, "depth": 1},
        "warm_steps": 2,
        "device": os.environ.get("TEST_DEVICE", "cpu"),
        "num_threads": 1,
        "seed": 3,
    }
    return Engine(strategy=strategy, **{**small, **settings})


def task(name: str, kind: str = "classification", **more: Any) -> TaskSpec:
    """A task over rows of `blobs`; a regression or multilabel one has two columns."""
    columns: dict[str, Any] = {} if kind == "classification" else {"targets": 2}
    return TaskSpec(name, modality="embedding", kind=kind, **{**columns, **more})


def blobs(labels: Sequence[int], seed: int = 0) -> np.ndarray:
    """float32 [B, WIDTH]: every class lies around a point of its own."""
    noise = np.random.default_rng(seed).standard_normal((len(labels), WIDTH))
    return _CENTRES[np.asarray(labels, np.int64)] + noise.astype(np.float32) * np.float32(0.3)


def labels_of(kind: str, n: int, seed: int = 0) -> Any:
    """Labels for `n` rows, in the form a user gives them."""
    draw = np.random.default_rng(seed)
    if kind == "classification":
        return [row % 3 for row in range(n)]
    if kind == "multilabel":
        return draw.integers(0, 2, (n, 2)).astype(np.uint8)
    assert kind in KINDS, f"labels_of knows no {kind}: give it a line here"
    return draw.normal(100.0, 20.0, (n, 2)).astype(np.float32)


def parts(one: Engine) -> Trainer:
    """What the facade hides, for tests that look into a step."""
    return one._trainer  # pyright: ignore[reportPrivateUsage]


def weights(one: Engine) -> np.ndarray:
    """All parameters in one vector."""
    flat = [p.detach().cpu().reshape(-1) for p in parts(one).model.parameters()]
    return torch.cat(flat).numpy().copy()


def saved(one: Engine) -> EngineState:
    """The state as a checkpoint keeps it: JSON through text, tensors copied."""
    live = one.state_dict()
    segments = {
        name: Segment(part.version, _copied(part.tensors)) for name, part in live.segments.items()
    }
    return EngineState(json.loads(json.dumps(live.meta)), _copied(live.tensors), segments)


def loaded(state: EngineState, strategy: Any = "er", **settings: Any) -> Engine:
    """A new engine that goes on from `state`."""
    made = engine(strategy, **settings)
    made.load_state_dict(state)
    return made


def differences(one: Engine, other: Engine) -> list[str]:
    """Names of everything that is not bit-equal in two engines; versions of segments need not be."""
    a, b = saved(one), saved(other)
    found = [f"meta {key}" for key in a.meta.keys() | b.meta.keys() if _of(a, key) != _of(b, key)]
    here, there = _tensors(a), _tensors(b)
    found += [f"{name}: only in one" for name in here.keys() ^ there.keys()]
    return sorted(
        found + [name for name in here.keys() & there.keys() if not _same(here[name], there[name])]
    )


def replayed_rows(one: Engine) -> np.ndarray:
    """Inputs of all rows in memory [M, WIDTH], in the order of their slots."""
    found = [
        table.x[torch.from_numpy(table.slots.used()).to(table.x.device)].cpu()
        for table in parts(one).replay.tables.values()
        if table.x is not None
    ]
    return torch.cat(found).numpy() if found else np.zeros((0, WIDTH), np.float32)


def _copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def _of(state: EngineState, key: str) -> str:
    return json.dumps(state.meta.get(key, "absent"), sort_keys=True)


def _tensors(state: EngineState) -> dict[str, torch.Tensor]:
    inside = {
        f"{segment}/{name}": value
        for segment, part in state.segments.items()
        for name, value in part.tensors.items()
    }
    return {**state.tensors, **inside}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
