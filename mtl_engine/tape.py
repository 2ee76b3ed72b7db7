"""Layers passed forward and back by hand: Linear, LayerNorm and ReLU, without autograd."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError

_CANCELLED = 1e-3  # of the bound: below it too few digits of a sum over pairs are left
_ATEN: Any = torch.ops.aten
_relu_backward: Any = _ATEN.threshold_backward.default
_norm_backward: Any = _ATEN.native_layer_norm_backward.default


@dataclass(frozen=True, slots=True)
class Product:
    """The gradient of y = x W^T + b before it is multiplied out: dW = g^T x, db = sum_B g.

    Plain gradient descent needs no more: its length is known from the factors, and it can be subtracted from the weights
    without ever being stored.
    """

    weight: Tensor
    bias: Tensor
    x_BI: Tensor
    g_BO: Tensor

    def square_bound(self) -> float:
        """|g|^2 (|x|^2 + B), which |dW|^2 + |db|^2 is never above; on CPU, where a number costs no wait."""
        x, g = self.x_BI.reshape(-1), self.g_BO.reshape(-1)
        return torch.dot(g, g).item() * (torch.dot(x, x).item() + len(self.g_BO))

    def square(self, bound: float) -> float:
        """|dW|^2 + |db|^2, given its `square_bound`: the sum over pairs of rows of (g g^T) (x x^T + 1).

        From dW itself where that is less work, and where pairs cancel: rounding is relative to the bound.
        """
        g, x = self.g_BO, self.x_BI
        if len(g) * (g.shape[1] + x.shape[1]) <= g.shape[1] * x.shape[1]:
            pairs_BB = (x @ x.t()).add_(1.0)
            found = torch.dot((g @ g.t()).reshape(-1), pairs_BB.reshape(-1)).item()
            if found > _CANCELLED * bound:
                return found
        return (g.t() @ x).square_().sum().item() + g.sum(0).square_().sum().item()

    def descend(self, lr: float) -> None:
        """W <- W - lr dW and b <- b - lr db, each in one operation."""
        self.weight.addmm_(self.g_BO.t(), self.x_BI, alpha=-lr)
        self.bias.add_(self.g_BO.sum(0), alpha=-lr)

    def multiply(self) -> None:
        """Into the `grad` of weights and bias."""
        _add(self.weight, self.g_BO.t() @ self.x_BI)
        _add(self.bias, self.g_BO.sum(0))


class Tape:
    """One way through Linear, LayerNorm and ReLU layers, and back.

    y = x W^T + b: dx = g W, and a `Product` for W and b. ReLU: dx = g where y > 0. LayerNorm: torch's kernel.
    """

    def __init__(self, layers: Iterable[nn.Module], products: list[Product]) -> None:
        self._layers = list(layers)
        self._products = products
        self._saved: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        given = x
        for layer in self._layers:
            if isinstance(layer, nn.Linear):
                self._saved.append((x,))
                x = torch.nn.functional.linear(x, layer.weight, layer.bias)
            elif isinstance(layer, nn.ReLU):
                x = (
                    x.relu() if x is given else x.relu_()
                )  # what a layer before made, nobody else has
                self._saved.append((x,))
            elif isinstance(layer, nn.LayerNorm):
                y, mean, rstd = torch.native_layer_norm(
                    x, layer.normalized_shape, layer.weight, layer.bias, layer.eps
                )
                self._saved.append((x, mean, rstd))
                x = y
            else:
                raise EngineError(f"no gradient by hand for {type(layer).__name__}: let `dense` return None")  # fmt: skip
        return x

    def backward(self, g: Tensor, *, needs_input: bool) -> Tensor | None:
        """Adds the products of Linear layers to the list and gradients to other parameters; returns the input's, if needed."""
        for at in range(len(self._layers) - 1, -1, -1):
            layer, (x, *more) = self._layers[at], self._saved[at]
            if isinstance(layer, nn.Linear):
                if layer.weight.requires_grad:  # not frozen
                    self._products.append(Product(layer.weight, layer.bias, x, g))
                if at == 0 and not needs_input:
                    return None
                g = g @ layer.weight
            elif isinstance(layer, nn.ReLU):
                g = _relu_backward(g, x, 0)
            elif isinstance(layer, nn.LayerNorm):
                wanted = [at > 0 or needs_input, layer.elementwise_affine, layer.elementwise_affine]
                g, *of = _norm_backward(g, x, layer.normalized_shape, *more, layer.weight, layer.bias, wanted)  # fmt: skip
                if layer.elementwise_affine:
                    _add(layer.weight, of[0])
                    _add(layer.bias, of[1])
        return g


def _add(parameter: Tensor, g: Tensor) -> None:
    parameter.grad = g if parameter.grad is None else parameter.grad + g
