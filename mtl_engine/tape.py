"""Layers passed forward and back by hand: Linear, LayerNorm and ReLU, without autograd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError

_ATEN: Any = torch.ops.aten
_relu_backward: Any = _ATEN.threshold_backward.default
_norm_backward: Any = _ATEN.native_layer_norm_backward.default


class Tape:
    """One way through Linear, LayerNorm and ReLU layers, and back.

    y = x W^T + b: dW = g^T x, db = sum_B g, dx = g W. ReLU: dx = g where y > 0. LayerNorm: torch's kernel.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self._layers = list(layers)
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
        """Gradients of the parameters, and of the input if it is needed."""
        for at in range(len(self._layers) - 1, -1, -1):
            layer, (x, *more) = self._layers[at], self._saved[at]
            if isinstance(layer, nn.Linear):
                linear_grads(layer.weight, layer.bias, x, g)
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


def linear_grads(weight: Tensor, bias: Tensor, x: Tensor, g: Tensor) -> None:
    """Gradients of y = x W^T + b, where W is not frozen."""
    if weight.requires_grad:
        _add(weight, g.t() @ x)
        _add(bias, g.sum(0))


def _add(parameter: Tensor, g: Tensor) -> None:
    parameter.grad = g if parameter.grad is None else parameter.grad + g
