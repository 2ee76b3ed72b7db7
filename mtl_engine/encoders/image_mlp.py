"""Flattened pixels through fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_engine.encoders.base import Encoder, as_float, fully_connected, sizes
from mtl_engine.tape import Layer, layers_of


class ImageMLP(Encoder):
    """Linear + ReLU for every width in `hidden`, then Linear to the trunk; no hidden layer by default."""

    def __init__(
        self, shape: Sequence[int], width: int, scale: float, hidden: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.scale = scale
        widths = [math.prod(shape), *sizes("hidden", hidden, 1, 16_384), width]
        self.layers = nn.Sequential(*fully_connected(widths))
        self.flat = layers_of(self.layers)

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        return self.layers(self._input(x))

    def decode(self, x: Tensor, length_B: Tensor | None = None) -> Tensor:
        return self._input(x)

    def dense(self, x: Tensor, length_B: Tensor | None) -> tuple[Tensor, Sequence[Layer]]:
        return self._input(x), self.flat

    def _input(self, x: Tensor) -> Tensor:
        decoded = x.dim() == 2 and x.dtype == torch.float32
        return x if decoded else as_float(x.flatten(1), self.scale)
