"""What others import: Producer, Engine, TaskSpec, load_snapshot, ModelReader; each is loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.producer import Producer
    from mtl_engine.engine import Engine
    from mtl_engine.reader import ModelReader
    from mtl_engine.snapshot import load as load_snapshot
    from mtl_engine.types import TaskSpec

__all__ = ["Engine", "ModelReader", "Producer", "TaskSpec", "load_snapshot"]

_PLACES = {
    "Engine": ("mtl_engine.engine", "Engine"),
    "ModelReader": ("mtl_engine.reader", "ModelReader"),
    "Producer": ("daemon.producer", "Producer"),
    "TaskSpec": ("mtl_engine.types", "TaskSpec"),
    "load_snapshot": ("mtl_engine.snapshot", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"mtld has no {name!r}: it has {', '.join(__all__)}")
    module, attribute = _PLACES[name]
    return vars(importlib.import_module(module))[attribute]
