"""What some arguments of the facade mean: a choice, a device, a trunk."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mtl_engine.errors import EngineError
from mtl_engine.model import TrunkSpec
from mtl_engine.names import unknown


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that is not one of those allowed."""
    if value not in allowed:
        raise EngineError(unknown(name, value, allowed))


def check_whole(low: int, **values: object) -> None:
    """Refuse a value that is no whole number from `low` up."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise EngineError(f"{name} is {value!r}: allowed are whole numbers >= {low}")


def at_least_0(name: str, value: object) -> float:
    """The value, unless it is no number from 0 up."""
    if not isinstance(value, (int, float)) or not value >= 0:
        raise EngineError(f"{name} is {value!r}: allowed are numbers >= 0, 0 = never")
    return value


def device_of(name: str) -> torch.device:
    """The device of that name; auto = a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EngineError(
            f"device {name!r}: {error}; allowed are auto, cpu, cuda and cuda:N"
        ) from error


def trunk_of(given: Mapping[str, Any] | None) -> TrunkSpec:
    """The trunk that a table of settings describes."""
    known = list(inspect.signature(TrunkSpec).parameters)
    for key in given or {}:
        if key not in known:
            raise EngineError(unknown("setting of the trunk", key, known))
    return TrunkSpec(**(given or {}))
