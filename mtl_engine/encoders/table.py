"""Table rows: standardised numbers, flags for missing values, hashed categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_engine import running
from mtl_engine.encoders.base import Encoder, check_total, fully_connected, size, sizes
from mtl_engine.tape import Layer, layers_of

_LIMIT = 8.0  # standard deviations; an outlier beyond it moves the features no further


class TableEncoder(Encoder):
    """Numbers become (x - mean) / deviation by the stream's running statistics, 0 where missing, beside a flag.

    Categories (columns in `categorical`, stored as bucket numbers) have a vector of `dim` for every bucket
    of every column, and one for "missing".
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        hidden: Sequence[int] = (128,),
        categorical: Sequence[int] = (),
        buckets: int = 1024,
        dim: int = 8,
    ) -> None:
        super().__init__()
        columns = set(sizes("categorical", categorical, 0, shape[0] - 1, most=shape[0]))
        chosen = sorted(columns)
        numeric = [c for c in range(shape[0]) if c not in columns]
        self.numeric_F, self.categorical_F = (
            torch.tensor(numeric, dtype=torch.int64),
            torch.tensor(chosen, dtype=torch.int64),
        )
        self.stats_3F: Tensor
        self.units_2F: Tensor
        self.register_buffer("stats_3F", torch.zeros(3, len(numeric), dtype=torch.float64))
        self.register_buffer(
            "units_2F", torch.stack([torch.zeros(len(numeric)), torch.ones(len(numeric))])
        )
        self.buckets = size("buckets", buckets, 1, 1_000_000)
        rows, dim = len(chosen) * (buckets + 1), size("dim", dim, 1, 1024)
        check_total(f"vectors of {len(chosen)} categorical columns", rows * dim)
        self.vectors = nn.Embedding(rows, dim) if chosen else None
        widths = [
            2 * len(numeric) + len(chosen) * dim,
            *sizes("hidden", hidden, 1, 16_384),
            width,
        ]
        self.layers = nn.Sequential(*fully_connected(widths))
        self.flat = layers_of(self.layers)

    def observe(self, x: Tensor, length_B: Tensor | None = None) -> None:
        x_BF = x.cpu().numpy()[:, self.numeric_F.numpy()]
        stats_3F = running.updated(self.stats_3F.cpu().numpy(), x_BF, ~np.isnan(x_BF))
        units_2F = np.stack([stats_3F[1], 1 / running.deviation(stats_3F)]).astype(np.float32)
        self.stats_3F.copy_(torch.from_numpy(stats_3F))
        self.units_2F.copy_(torch.from_numpy(units_2F))

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        return self.layers(self._input(x.float()))

    def dense(self, x: Tensor, length_B: Tensor | None) -> tuple[Tensor, Sequence[Layer]] | None:
        return None if self.vectors is not None else (self._input(x.float()), self.flat)

    def _input(self, x: Tensor) -> Tensor:
        x_BF = x[:, self.numeric_F.to(x.device)]
        missing_BF = torch.isnan(x_BF)
        z_BF = (
            ((x_BF - self.units_2F[0]) * self.units_2F[1])
            .masked_fill(missing_BF, 0.0)
            .clamp(-_LIMIT, _LIMIT)
        )
        parts = [z_BF, missing_BF.float()]
        if self.vectors is not None:
            bucket_BF = torch.nan_to_num(
                x[:, self.categorical_F.to(x.device)], nan=float(self.buckets)
            ).long()
            first_F = torch.arange(bucket_BF.shape[1], device=x.device) * (self.buckets + 1)
            parts.append(functional.embedding(bucket_BF + first_F, self.vectors.weight).flatten(1))
        return torch.cat(parts, 1)
