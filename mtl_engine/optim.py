"""Optimizers over named parameters: a parameter that grows keeps its moments, and state is saved by name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_engine.components import Spec, build
from mtl_engine.errors import StateError
from mtl_engine.tape import AnyProduct, BagProduct, Product, Vectors
from mtl_engine.types import Json

OPTIMIZERS: dict[str, str | Json] = {
    "sgd": "mtl_engine.optim:SGD",
    "adamw": "mtl_engine.optim:AdamW",
}


_OPS: Any = torch  # its fused updates are private; the other way to them is torch.optim


class Fused(ABC):
    """What the fused optimizers share. Not torch.optim's classes, which import the compiler at their first use: 2 s of every start."""

    def __init__(self, params: Sequence[nn.Parameter]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(params)}]
        self.state: defaultdict[nn.Parameter, dict[str, Tensor]] = defaultdict(dict)

    @abstractmethod
    def step(self) -> None:
        """Update every parameter that has a gradient."""

    @property
    def descends(self) -> float:
        """The step size, where an update is that many times the gradient and nothing else; otherwise 0."""
        return 0.0

    def _moments(self, parameter: nn.Parameter, **zeros: Sequence[int]) -> list[Tensor]:
        """Its moments, made of zeros at its first step."""
        found = self.state[parameter]
        for name, shape in zeros.items():
            if name not in found:
                found[name] = parameter.new_zeros(shape, dtype=torch.float32)
        return [found[name] for name in zeros]

    def _updated(self) -> list[nn.Parameter]:
        return [
            parameter for parameter in self.param_groups[0]["params"] if parameter.grad is not None
        ]


class SGD(Fused):
    """SGD with momentum as in torch.optim.SGD, in torch's fused form, which is the fastest one on CPU too."""

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float = 0.03,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params)
        self._settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "dampening": 0.0,
            "nesterov": False,
        }

    @property
    def descends(self) -> float:
        plain = not self._settings["momentum"] and not self._settings["weight_decay"]
        return float(self._settings["lr"]) if plain else 0.0

    def step(self) -> None:
        params = self._updated()
        if not params:
            return
        moments = (
            [self._moments(p, momentum_buffer=p.shape)[0] for p in params]
            if self._settings["momentum"]
            else []
        )
        grads = [p.grad for p in params]
        _OPS._fused_sgd_(
            params, grads, moments, **self._settings, maximize=False, is_first_step=False
        )


class AdamW(Fused):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) as in torch.optim.AdamW, in torch's fused form."""

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float = 5e-4,
        betas: Sequence[float] = (0.9, 0.999),
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params)
        self._settings = {
            "lr": lr,
            "beta1": betas[0],
            "beta2": betas[1],
            "weight_decay": weight_decay,
            "eps": 1e-8,
        }

    def step(self) -> None:
        params = self._updated()
        if not params:
            return
        moments = [self._moments(p, exp_avg=p.shape, exp_avg_sq=p.shape, step=()) for p in params]
        first, second, steps = ([one[k] for one in moments] for k in range(3))
        _OPS._foreach_add_(steps, 1.0)
        grads = [p.grad for p in params]
        _OPS._fused_adamw_(
            params, grads, first, second, [], steps, amsgrad=False, maximize=False, **self._settings
        )


class Optimizer:
    """Wraps a torch optimizer and knows its parameters by name."""

    def __init__(self, spec: Spec, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(sorted(parameters.items()))
        self._torch: Fused | torch.optim.Optimizer = build(
            OPTIMIZERS, spec, "optimizer", params=list(self._parameters.values())
        )
        self._step: Callable[[], Any] = self._torch.step
        self._descends = self._torch.descends if isinstance(self._torch, Fused) else 0.0

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """All parameters, in order of their names."""
        return self._parameters

    def step(self, clip_norm: float = 0.0, products: Sequence[AnyProduct] = ()) -> bool:
        """Update every parameter that has a gradient; False, and nothing is updated, where one is not finite.

        A gradient longer than `clip_norm` (over all parameters but `Vectors`, and of each of those; 0 = any length) is
        shortened to it (Pascanu, Mikolov, Bengio 2013, arXiv 1211.5063): finite rows can still be absurd. Plain gradient
        descent takes products as they are, and their gradient is never stored.
        """
        if products and self._descends and products[0].weight.is_cpu:
            return self._descend(products, clip_norm)
        for product in products:
            product.multiply()
        if clip_norm and not all(_shortened(grads, clip_norm) for grads in self._groups()):
            return False
        with torch.no_grad():
            self._step()
        return True

    def _groups(self) -> list[list[Tensor]]:
        """Gradients whose length is limited together."""
        given = [(p, p.grad) for p in self._parameters.values() if p.grad is not None]
        alone = [[grad] for p, grad in given if isinstance(p, Vectors)]
        others = [grad for p, grad in given if not isinstance(p, Vectors)]
        return [*alone, others] if others else alone

    def _descend(self, products: Sequence[AnyProduct], clip_norm: float) -> bool:
        """As `step`, on CPU. Most gradients are short enough by a bound on their length, which costs less than the length."""
        grads = [p.grad for p in self._parameters.values() if p.grad is not None]
        square = _length(grads) ** 2 if grads else 0.0
        dense = [product for product in products if isinstance(product, Product)]
        bags = [product for product in products if isinstance(product, BagProduct)]
        shorter, factors = 1.0, [1.0] * len(bags)
        if clip_norm:
            shorter = _shorter(math.sqrt(_square(dense, square, clip_norm**2)), clip_norm)
            factors = [_shorter(math.sqrt(bag.square()), clip_norm) for bag in bags]
            if not shorter or not all(factors):
                return False
        for product in dense:
            product.descend(self._descends * shorter)
        for bag, factor in zip(bags, factors, strict=True):
            bag.descend(self._descends * factor)
        if grads:
            if shorter < 1:
                _OPS._foreach_mul_(grads, shorter)
            self._step()
        return True

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
            self._torch.state[parameter] = {
                key: _grown(value, old.shape, parameter.shape) for key, value in state.items()
            }
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

    def load_state(
        self, parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]
    ) -> None:
        self._parameters = dict(parameters)
        self._torch.state.clear()
        for full, value in values.items():
            name, _, key = full.rpartition(".")
            if name not in self._parameters:
                raise StateError(
                    f"the optimizer's state names {name}, which the model does not have"
                )
            self._torch.state[self._parameters[name]][key] = value
        self._regroup()

    def _regroup(self) -> None:
        # by name, not by age: sums over parameters must come out the same in a process that loaded its state
        self._parameters = dict(sorted(self._parameters.items()))
        self._torch.param_groups[0]["params"] = list(self._parameters.values())


def _shorter(length: float, most: float) -> float:
    """What a gradient of this length is multiplied with, at most 1; 0 where it is not finite."""
    if not math.isfinite(length):
        return 0.0
    return most / length if length > most else 1.0


_FAR = 16.0  # a bound is seldom further from the length than this


def _shortened(grads: list[Tensor], most: float) -> bool:
    """Whether they are finite; where together they are longer than `most`, they are that long now."""
    shorter = _shorter(_length(grads), most)
    if 0 < shorter < 1:
        _OPS._foreach_mul_(grads, shorter)
    return shorter > 0


def _square(products: Sequence[Product], beside: float, most: float) -> float:
    """A bound of at most `most` on the squared length of products and what is `beside` them, or else that square itself.

    Bounds first, nearer ones where a first is not enough, and for the largest product at once. Where none is enough
    products are multiplied out, from the greatest bound on.
    """
    if not products:
        return beside
    first = max(products, key=lambda one: one.weight.numel())
    others = [product for product in products if product is not first]
    bounds = [(first.rows_bound(), first), *((one.square_bound(), one) for one in others)]
    total = beside + sum(bound for bound, _ in bounds)
    if total <= most:
        return total
    if total <= _FAR * most:
        bounds[1:] = [(one.rows_bound(), one) for one in others]
    bounds.sort(key=lambda one: one[0], reverse=True)
    for k, (_, product) in enumerate(bounds):
        total = beside + sum(bound for bound, _ in bounds)
        if total <= most:
            return total
        bounds[k] = (product.square(), product)
    return beside + sum(bound for bound, _ in bounds)


def _length(grads: Sequence[Tensor]) -> float:
    """Euclidean norm over all of them; on CPU from a dot product each, at a third of the cost, on a GPU with one wait."""
    if not all(grad.is_cpu for grad in grads):
        return _OPS.stack(_OPS._foreach_norm(grads)).norm().item()
    flat = [grad.reshape(-1) for grad in grads]
    square = sum(torch.dot(g, g).item() for g in flat)
    return math.sqrt(square) if math.isfinite(square) else math.inf


def _grown(value: Any, old: torch.Size, new: torch.Size) -> Any:
    if not isinstance(value, Tensor) or value.shape != old:
        return value  # a step counter
    return functional.pad(value, (*[0, 0] * (len(new) - 1), 0, new[0] - old[0]))
