"""Averaged weights: an exponential moving average of the parameters, cheap because it is taken every few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError

_OPS: Any = torch  # the update of many tensors at once is private, and there is no other way to it
EVERY = 8  # most steps between two updates of the average; the decay is raised to how many they are
# Steps since the model last changed, below which it is taken every 1, 2 and 4 steps.
_SOONER = ((30, 1), (60, 2), (120, 4))
HEAD_START, BACK = 3, 4


class Average:
    """a <- d a + (1 - d) w with d = min(decay, (3 + n) / (7 + n)), where n counts the steps since the model last changed.

    So the average looks back on (3 + n) / 4 steps, at most on decay / (1 - decay). The model changes when an encoder, a head
    or a column of one is new and when a phase begins: what is new then moves all of it, and a trunk of long ago does not
    fit a column of now. As in the mean teacher (Tarvainen and Valpola 2017, arXiv 1703.01780), whose average of an old
    model is a slow one for ever; statistics of encoders are not averaged.
    """

    def __init__(self, decay: float) -> None:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EngineError(
                f"ema_decay is {decay!r}: allowed are numbers from 0 up to, not including, 1"
            )
        self.decay = decay
        self.values: dict[str, Tensor] = {}
        self._live: list[Tensor] = []

    def sync(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Follow added, grown and removed parameters; what is new starts at its present value."""
        kept: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            value = kept[name] = parameter.detach().clone()
            old = self.values.get(name)
            if old is not None:
                value[tuple(slice(n) for n in old.shape)] = old
        self._follow(kept, parameters)

    def update(self, step: int, age: int) -> None:
        """Take the average, if it is to be taken at this step; `age` steps ago the model last changed."""
        every = next((every for below, every in _SOONER if age < below), EVERY)
        if step % every:
            return
        decay = min(self.decay, (HEAD_START + age) / (HEAD_START + BACK + age)) ** every
        _OPS._foreach_lerp_([*self.values.values()], self._live, 1 - decay)

    def load_state(
        self, values: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]
    ) -> None:
        self._follow({name: values[name] for name in parameters}, parameters)

    def _follow(self, values: dict[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
        self.values = values
        self._live = [parameter.detach() for parameter in parameters.values()]
