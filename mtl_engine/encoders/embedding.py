"""Vectors that another model computed, through fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from mtl_engine.encoders.base import Encoder, size


class EmbeddingEncoder(Encoder):
    """LayerNorm without parameters (vectors come in any scale), then Linear + ReLU for `hidden`, then Linear."""

    def __init__(self, shape: Sequence[int], width: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        widths = [math.prod(shape), *(size("hidden", n, 1, 65_536) for n in hidden), width]
        layers: list[nn.Module] = [nn.LayerNorm(widths[0], elementwise_affine=False)]
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        return self.layers(x.float().flatten(1))
