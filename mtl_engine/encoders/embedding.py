"""Vectors that another model computed, through fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from mtl_engine.encoders.base import Encoder, fully_connected, sizes
from mtl_engine.tape import Layer, layers_of


class EmbeddingEncoder(Encoder):
    """LayerNorm without parameters (vectors come in any scale), then Linear + ReLU for `hidden`, then Linear."""

    def __init__(self, shape: Sequence[int], width: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        widths = [math.prod(shape), *sizes("hidden", hidden, 1, 16_384), width]
        self.layers = nn.Sequential(
            nn.LayerNorm(widths[0], elementwise_affine=False), *fully_connected(widths)
        )
        self.flat = layers_of(self.layers)

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        return self.layers(x.float().flatten(1))

    def dense(self, x: Tensor, length_B: Tensor | None) -> tuple[Tensor, Sequence[Layer]]:
        return x.float().flatten(1), self.flat
