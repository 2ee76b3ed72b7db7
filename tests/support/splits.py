"""Registries, splitters and tables of hold-outs without an engine around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_engine.heldout import HeldOut
from mtl_engine.registry import Registry
from mtl_engine.splitting import Splitter
from mtl_engine.types import Rows, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

SALT = "of the tests"


def registry(*specs: TaskSpec) -> Registry:
    made = Registry(None, 16)
    for spec in specs:
        made.add(spec)
    return made


def numbers(name: str = "a", **more: Any) -> TaskSpec:
    """A classification of rows of numbers."""
    return TaskSpec(name, modality="embedding", **more)


def prepared(of: Registry, task: str | None, x: Any, y: Any = None, mask: Any = None) -> Rows:
    return of.prepare(task, x, y, mask, None)


def distinct(rows: int, seed: int = 0, width: int = 4) -> np.ndarray:
    """float32 [rows, width], no two rows alike."""
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def held_of(splitter: Splitter, events: Iterable[Rows]) -> list[np.ndarray]:
    """Which rows of each event are held out; the events come one after the other."""
    return [splitter.split(rows, f"{place}-0")[0] for place, rows in enumerate(events, 1)]


def table(spec: TaskSpec | None = None, seed: int = 1, salt: str = SALT) -> HeldOut:
    """Hold-outs of one task, if none is given of `a` with the labels 0 to 4 in this order."""
    of = registry(spec or numbers(classes=(0, 1, 2, 3, 4)))
    return HeldOut(of, Splitter(of, salt), seed)
