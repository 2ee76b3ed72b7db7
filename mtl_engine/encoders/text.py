"""Raw text: hashed byte n-grams in a bag of vectors, for any language and without a vocabulary.

Follows fastText (Bojanowski et al. 2017, arXiv 1607.04606; hashing as in Weinberger et al. 2009,
arXiv 0902.2206), on bytes instead of characters; ASCII letters are lowered first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_engine.encoders.base import Encoder, check_total, size, sizes

_FACTOR = 0x01000193  # the multiplier of FNV-1a, 32 bit
_WORD = 0xFFFFFFFF
_SPREAD = 0x9E3779B1  # 2^32 / golden ratio, odd


class TextEncoder(Encoder):
    """h = W (sum of the vectors of all n-grams / sqrt(their number)); the sum over root n keeps the variance
    of h the same for short and long texts, and gives each vector a larger gradient than a mean would."""

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        buckets: int = 8192,
        dim: int = 64,
        orders: Sequence[int] = (2, 3, 4),
    ) -> None:
        super().__init__()
        self.buckets = size("buckets", buckets, 2, 4_000_000)
        self.orders = sizes("orders", orders, 1, 16)
        check_total("vectors of n-grams", buckets * size("dim", dim, 1, 4096))
        self.vectors = nn.Embedding(buckets, dim, padding_idx=0)
        self.out = nn.Linear(dim, width)

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        if length_B is None:
            length_B = (x != 0).sum(1)
        bucket_BN = self.ngrams(x, length_B)
        h_BD = self.bag(bucket_BN)
        count_B1 = (bucket_BN != 0).sum(1, keepdim=True).clamp(min=1)
        return self.out(h_BD * count_B1.rsqrt())

    def bag(self, bucket_BN: Tensor) -> Tensor:
        """The sum of the vectors; in an exported graph by a gather and a product, since ONNX makes a bag a slow loop."""
        weight = self.vectors.weight
        if torch.compiler.is_exporting():
            given_B1N = (bucket_BN != 0).unsqueeze(1).to(weight.dtype)
            return torch.bmm(given_B1N, functional.embedding(bucket_BN, weight)).squeeze(1)
        return functional.embedding_bag(bucket_BN, weight, mode="sum", padding_idx=0)

    def ngrams(self, x_BT: Tensor, length_B: Tensor) -> Tensor:
        """Buckets of all n-grams inside a text, with a space in front and behind; 0 beyond its end."""
        fixed = length_B.device.type != "cpu" or torch.compiler.is_exporting()
        longest = (
            x_BT.shape[1] if fixed else int(length_B.max())
        )  # what is beyond it counts for nothing
        byte_BT = functional.pad(x_BT[:, :longest].long(), (1, 1))
        at_T = torch.arange(byte_BT.shape[1], device=x_BT.device)
        byte_BT = torch.where((byte_BT >= 65) & (byte_BT <= 90), byte_BT + 32, byte_BT)
        byte_BT = torch.where(at_T > length_B[:, None], 32, byte_BT)
        byte_BT[:, 0] = 32
        found = [torch.zeros_like(byte_BT[:, :1])]
        for n in self.orders:
            if byte_BT.shape[1] >= n:
                hashed_BT = self._hashed(byte_BT, n)
                inside_BT = at_T[: hashed_BT.shape[1]] + n <= length_B[:, None] + 2
                found.append(hashed_BT * inside_BT)
        return torch.cat(found, 1)

    def _hashed(self, byte_BT: Tensor, n: int) -> Tensor:
        """1 .. buckets - 1 for the n-gram that starts at each byte."""
        size_ = byte_BT.shape[1] - n + 1
        hashed_BT = torch.full_like(byte_BT[:, :size_], 0x811C9DC5 + n)
        for offset in range(n):
            hashed_BT = ((hashed_BT ^ byte_BT[:, offset : offset + size_]) * _FACTOR) & _WORD
        hashed_BT = ((hashed_BT ^ (hashed_BT >> 15)) * _SPREAD) & _WORD
        return (hashed_BT >> 8) % (self.buckets - 1) + 1
