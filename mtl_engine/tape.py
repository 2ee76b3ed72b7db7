"""Layers passed forward and back by hand, without autograd: Linear, LayerNorm and ReLU, and a bag of vectors before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError
from mtl_engine.types import Array

_ATEN: Any = torch.ops.aten
_relu_backward: Any = _ATEN.threshold_backward.default
_norm_backward: Any = _ATEN.native_layer_norm_backward.default


@lru_cache(maxsize=64)
def _ones(n: int, device: torch.device) -> Tensor:
    return torch.ones(n, device=device)


@dataclass(slots=True)
class Product:
    """The gradient of y = x W^T + b before it is multiplied out: dW = g^T x, db = sum_B g.

    Plain gradient descent often needs no more: a bound on its length comes from the factors, and it can be subtracted
    from the weights without ever being stored.
    """

    weight: Tensor
    bias: Tensor
    x_BI: Tensor
    g_BO: Tensor
    _made: tuple[Tensor, Tensor] | None = None  # dW and db

    def square_bound(self) -> float:
        """|g|^2 (|x|^2 + B), which |dW|^2 + |db|^2 is never above; on CPU, where a number costs no wait."""
        x, g = self.x_BI.numpy(), self.g_BO.numpy()
        return float(np.vdot(g, g)) * (float(np.vdot(x, x)) + len(g))

    def rows_bound(self) -> float:
        """(sum_B |g_B| |(x_B, 1)|)^2: lower than `square_bound` where few rows have most of g, and half as cheap."""
        x, g = self.x_BI.numpy(), self.g_BO.numpy()
        xx_B: Array = np.vecdot(x, x)
        gg_B: Array = np.vecdot(g, g)
        xx_B += 1
        length = float(np.vdot(np.sqrt(xx_B, out=xx_B), np.sqrt(gg_B, out=gg_B)))
        return length * length

    def square(self) -> float:
        """|dW|^2 + |db|^2, multiplied out."""
        return sum(torch.dot(d.view(-1), d.view(-1)).item() for d in self.gradients())

    def gradients(self) -> tuple[Tensor, Tensor]:
        """dW and db."""
        if self._made is None:
            self._made = self.g_BO.t() @ self.x_BI, self.g_BO.sum(0)
        return self._made

    def descend(self, lr: float) -> None:
        """W <- W - lr dW and b <- b - lr db; what is not multiplied out yet never is."""
        if self._made is None:
            g_OB = self.g_BO.t()
            self.weight.addmm_(g_OB, self.x_BI, alpha=-lr)
            self.bias.addmv_(g_OB, _ones(len(self.g_BO), g_OB.device), alpha=-lr)
        else:
            self.weight.add_(self._made[0], alpha=-lr)
            self.bias.add_(self._made[1], alpha=-lr)

    def multiply(self) -> None:
        """Into the `grad` of weights and bias."""
        d_OI, d_O = self.gradients()
        _add(self.weight, d_OI)
        _add(self.bias, d_O)


class Vectors(nn.Parameter):
    """Many vectors, few of which a row has. The optimizer limits the length of its gradient apart from all others': vectors
    that begin near zero have a long one, beside which nothing else that is trained in the same step would move."""


@dataclass(slots=True)
class BagProduct:
    """The gradient of a bag's vectors, of those alone that have one: for vector k the sum of x g over the places it has."""

    weight: Tensor
    row_U: Tensor  # which vectors
    g_UD: Tensor

    @classmethod
    def of(cls, bag: Bag, x_BN: Tensor, g_BD: Tensor) -> BagProduct:
        """On CPU. Places are sorted by vector, so that the sums over them are the bags of another bag, in one order."""
        bucket_M = bag.bucket_BN.numpy().ravel()
        place_M = np.flatnonzero(bucket_M)
        key_M = np.sort(bucket_M[place_M] * len(bucket_M) + place_M)
        row_M, place_M = np.divmod(key_M, len(bucket_M))
        start_U = np.flatnonzero(np.diff(row_M, prepend=-1))
        sum_UD = torch.nn.functional.embedding_bag(
            torch.from_numpy(place_M // x_BN.shape[1]),
            g_BD,
            torch.from_numpy(start_U),
            mode="sum",
            per_sample_weights=x_BN.reshape(-1)[torch.from_numpy(place_M)],
        )
        return cls(bag.weight, torch.from_numpy(row_M[start_U]), sum_UD)

    def square(self) -> float:
        """|dW|^2."""
        flat = self.g_UD.numpy().ravel()
        return float(np.vdot(flat, flat))

    def descend(self, lr: float) -> None:
        """W <- W - lr dW, in the vectors that have a gradient."""
        self.weight.index_add_(0, self.row_U, self.g_UD, alpha=-lr)

    def multiply(self) -> None:
        """Into the `grad` of the vectors."""
        _add(self.weight, torch.zeros_like(self.weight).index_copy_(0, self.row_U, self.g_UD))


AnyProduct = Product | BagProduct


class Bag(NamedTuple):
    """h_B = sum_N x_BN W[bucket_BN], and nothing from bucket 0; the first layer, made for the rows it is passed by."""

    weight: Tensor
    bucket_BN: Tensor


class Dense(NamedTuple):
    """The parameters of a Linear layer, looked up once: an attribute of a module is not found at once, and a step asks for dozens."""

    weight: Tensor
    bias: Tensor


Layer = Dense | Bag | nn.LayerNorm | nn.ReLU


def layers_of(modules: Iterable[nn.Module]) -> list[Layer]:
    """Linear, LayerNorm and ReLU layers as a tape takes them; EngineError for any other."""
    return [_layer(module) for module in modules]


def _layer(module: nn.Module) -> Layer:
    if isinstance(module, nn.Linear):
        return Dense(module.weight, module.bias)
    if isinstance(module, (nn.LayerNorm, nn.ReLU)):
        return module
    raise EngineError(f"no gradient by hand for {type(module).__name__}: let `dense` return None")


class Tape:
    """One way through Linear, LayerNorm and ReLU layers, and back.

    y = x W^T + b: dx = g W, and a `Product` for W and b. ReLU: dx = g where y > 0. LayerNorm: torch's kernel.
    """

    def __init__(self, layers: Sequence[Layer], products: list[AnyProduct] | None = None) -> None:
        self._layers = layers
        self._products = [] if products is None else products
        self._saved: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        given = x
        for layer in self._layers:
            if isinstance(layer, Dense):
                self._saved.append((x,))
                x = torch.nn.functional.linear(x, layer.weight, layer.bias)
            elif isinstance(layer, Bag):
                self._saved.append((x,))
                x = torch.nn.functional.embedding_bag(
                    layer.bucket_BN, layer.weight, mode="sum", per_sample_weights=x
                )
            elif isinstance(layer, nn.ReLU):
                x = (
                    x.relu() if x is given else x.relu_()
                )  # what a layer before made, nobody else has
                self._saved.append((x,))
            else:
                y, mean, rstd = torch.native_layer_norm(
                    x, layer.normalized_shape, layer.weight, layer.bias, layer.eps
                )
                self._saved.append((x, mean, rstd))
                x = y
        return x

    def backward(self, g: Tensor, *, needs_input: bool) -> Tensor | None:
        """Adds the products of layers to the list and gradients to other parameters; returns the input's, if needed."""
        for at in range(len(self._layers) - 1, -1, -1):
            layer, (x, *more) = self._layers[at], self._saved[at]
            if isinstance(layer, Dense):
                weight, bias = layer
                if weight.requires_grad:  # not frozen
                    self._products.append(Product(weight, bias, x, g))
                if at == 0 and not needs_input:
                    return None
                g = g @ weight
            elif isinstance(layer, Bag):
                self._products.append(BagProduct.of(layer, x, g))
                return None
            elif isinstance(layer, nn.ReLU):
                g = _relu_backward(g, x, 0)
            else:
                wanted = [at > 0 or needs_input, layer.elementwise_affine, layer.elementwise_affine]
                g, *of = _norm_backward(g, x, layer.normalized_shape, *more, layer.weight, layer.bias, wanted)  # fmt: skip
                if layer.elementwise_affine:
                    _add(layer.weight, of[0])
                    _add(layer.bias, of[1])
        return g


def _add(parameter: Tensor, g: Tensor) -> None:
    parameter.grad = g if parameter.grad is None else parameter.grad + g
