"""Averaged weights: an exponential moving average of the parameters, cheap because it is taken every few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError
from mtl_engine.types import Json

_OPS: Any = torch  # the update of many tensors at once is private, and there is no other way to it
EVERY = 8  # steps between two updates of the average; the decay is raised to this power


class Average:
    """a <- d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)), where n counts a parameter's own steps.

    The warm-up makes the average of a young parameter (a new task's head) follow it closely. As in the
    mean teacher (Tarvainen and Valpola 2017, arXiv 1703.01780); statistics of encoders are not averaged.
    """

    def __init__(self, decay: float) -> None:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EngineError(
                f"ema_decay is {decay!r}: allowed are numbers from 0 up to, not including, 1"
            )
        self.decay = decay
        self.values: dict[str, Tensor] = {}
        self.born: dict[str, int] = {}  # the step before a parameter's first
        self._groups: list[tuple[int, list[Tensor], list[Tensor]]] = []

    def sync(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Follow added, grown and removed parameters; what is new starts at its present value."""
        kept: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            value = parameter.detach().clone()
            if name in self.values:
                old = self.values[name]
                value[tuple(slice(n) for n in old.shape)] = old
            kept[name] = value
        self.born = {name: self.born.get(name, step) for name in kept}
        self.values = kept
        self._group(parameters)

    def update(self, step: int) -> None:
        if step % EVERY:
            return
        for born, averages, live in self._groups:
            n = step - born
            decay = min(self.decay, (1 + n) / (10 + n)) ** EVERY
            _OPS._foreach_lerp_(averages, live, 1 - decay)

    def state(self) -> tuple[Json, dict[str, Tensor]]:
        return {"born": dict(self.born)}, dict(self.values)

    def load_state(
        self, meta: Json, values: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]
    ) -> None:
        self.born = {name: int(born) for name, born in meta["born"].items()}
        self.values = {name: values[name] for name in parameters}
        self._group(parameters)

    def _group(self, parameters: Mapping[str, nn.Parameter]) -> None:
        ages = sorted(set(self.born.values()))
        self._groups = [
            (
                age,
                [self.values[name] for name in parameters if self.born[name] == age],
                [parameters[name].detach() for name in parameters if self.born[name] == age],
            )
            for age in ages
        ]
