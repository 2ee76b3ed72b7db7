"""A small convolutional network with GroupNorm, which does not mix stream and replay rows as BatchNorm would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from mtl_engine.encoders.base import Encoder, as_float, check_total, size, sizes
from mtl_engine.errors import EngineError

_MAX_FEATURES = 1 << 23  # of one image in one layer: 32 MiB, times the rows of a step


class ImageCNN(Encoder):
    """Blocks of 3x3 convolution, GroupNorm, ReLU and 2x2 max-pooling; average-pooled to 4x4, then Linear.

    Rows are [height, width], [height, width, 1 to 4 channels] or [channels, height, width].
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        scale: float,
        channels: Sequence[int] = (16, 32),
        groups: int = 4,
    ) -> None:
        super().__init__()
        if len(shape) < 2:
            raise EngineError(
                f"encoder cnn needs images of 2 or 3 axes: found rows of shape {tuple(shape)}; use mlp"
            )
        self.scale = scale
        self.last = len(shape) == 3 and shape[2] <= 4
        planes = 1 if len(shape) == 2 else shape[2] if self.last else shape[0]
        groups = size("groups", groups, 1, 1024)
        layers: list[nn.Module] = []
        channels = sizes("channels", channels, 1, 4096)
        pixels = math.prod(shape) // planes
        pairs = list(pairwise([planes, *channels]))
        check_total("convolutions", sum(9 * narrow * wide for narrow, wide in pairs))
        for k, (narrow, wide) in enumerate(pairs):
            check_total(f"{wide} channels of one image", wide * (pixels >> 2 * k), _MAX_FEATURES)
            if wide % groups:
                raise EngineError(
                    f"channels {wide} of encoder cnn: allowed are multiples of groups = {groups}"
                )
            layers += [
                nn.Conv2d(narrow, wide, 3, padding=1),
                nn.GroupNorm(groups, wide),
                nn.ReLU(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.out = nn.Linear(16 * (channels[-1] if channels else planes), width)

    def decode(self, x: Tensor, length_B: Tensor | None = None) -> Tensor:
        return as_float(x, self.scale)

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        x = as_float(x, self.scale)
        if x.ndim == 3:
            x = x.unsqueeze(1)
        elif self.last:
            x = x.permute(0, 3, 1, 2)
        return self.out(self.pool(self.blocks(x)).flatten(1))
