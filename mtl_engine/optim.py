"""Optimizers over named parameters: a parameter that grows keeps its moments, and state is saved by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_engine.components import Spec, build
from mtl_engine.errors import StateError
from mtl_engine.types import Json

OPTIMIZERS: dict[str, str | Json] = {"sgd": "mtl_engine.optim:SGD", "adamw": "mtl_engine.optim:AdamW"}


class SGD(torch.optim.SGD):
    """torch's SGD in its fused form, which is the fastest one on CPU too; `lr` is the step size."""

    def __init__(self, params: list[nn.Parameter], lr: float = 0.03, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)

    def step(self, closure: Any = None) -> Any:
        """Moments start at zero: the fused form takes a moment for every parameter or for none, and heads come later."""
        group = self.param_groups[0]
        if group["momentum"]:
            for parameter in group["params"]:
                if parameter.grad is not None and self.state[parameter].get("momentum_buffer") is None:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return super().step(closure)


class AdamW(torch.optim.AdamW):
    """torch's AdamW in its fused form (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

    def __init__(
        self, params: list[nn.Parameter], lr: float = 5e-4, betas: Sequence[float] = (0.9, 0.999), weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=True)


class Optimizer:
    """Wraps a torch optimizer and knows its parameters by name."""

    def __init__(self, spec: Spec, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._torch: torch.optim.Optimizer = build(OPTIMIZERS, spec, "optimizer", params=list(self._parameters.values()))
        self._step: Callable[[], Any] = self._torch.step

    def step(self) -> None:
        self._step()

    def zero_grad(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    def add(self, name: str, parameter: nn.Parameter) -> None:
        self._parameters[name] = parameter
        self._regroup()

    def replace(self, name: str, parameter: nn.Parameter) -> None:
        """`parameter` has more rows than the one before; its moments are the old ones with zeros for the new rows."""
        old = self._parameters[name]
        state = self._torch.state.pop(old, None)
        self._parameters[name] = parameter
        if state:
            self._torch.state[parameter] = {key: _grown(value, old.shape, parameter.shape) for key, value in state.items()}
        self._regroup()

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._torch.state.pop(self._parameters.pop(name), None)
        self._regroup()

    def state(self) -> dict[str, Tensor]:
        """Moments as "<parameter>.<moment>", live; a parameter that was never updated has none."""
        return {
            f"{name}.{key}": value
            for name, parameter in self._parameters.items()
            for key, value in self._torch.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
        self._parameters = dict(parameters)
        self._torch.state.clear()
        for full, value in values.items():
            name, _, key = full.rpartition(".")
            if name not in self._parameters:
                raise StateError(f"the optimizer's state names {name}, which the model does not have")
            self._torch.state[self._parameters[name]][key] = value
        self._regroup()

    def _regroup(self) -> None:
        self._torch.param_groups[0]["params"] = list(self._parameters.values())


def _grown(value: Any, old: torch.Size, new: torch.Size) -> Any:
    if not isinstance(value, Tensor) or value.shape != old:
        return value  # a step counter
    return F.pad(value, (*[0, 0] * (len(new) - 1), 0, new[0] - old[0]))
