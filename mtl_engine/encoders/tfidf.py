"""Raw text: hashed byte n-grams, each weighted by how few texts have it, for any language and without a vocabulary.

Weights are those of TF-IDF (Spärck Jones 1972) with rows of length 1, the document frequencies those of the stream so far.
Hashing as in Weinberger et al. 2009 (arXiv 0902.2206), on bytes; ASCII letters are lowered first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_engine.encoders.base import Encoder, check_total, size, sizes
from mtl_engine.tape import Bag, Layer, Vectors

_WORD = 0xFFFFFFFF
_BASE = 0x01000193  # of the polynomial; odd, so that it has an inverse modulo 2^32
_SPREAD = 0x9E3779B1  # 2^32 / golden ratio, odd
_FRAME = 3  # spaces around a text: one in front and two behind, so that a single letter has an n-gram of 4
_START = 0.003  # deviation of initial vectors; see the class


class TfidfEncoder(Encoder):
    """h = sum of w v over the n-grams of a text; w = idf / (length of all idf of the text), v a vector of the trunk's width.

    idf = 1 + log((1 + texts) / (1 + texts with this n-gram)), counted over rows of the stream. Vectors begin near zero. The
    trunk's first norm makes up for their length, so its gradient is as many times larger, and a rare n-gram's vector points
    where it should after a few of its texts, not after thousands: a stream shows each of them once. No layer lies
    between the vectors and the trunk, since one of random directions takes a part of that away again.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        buckets: int = 8192,
        orders: Sequence[int] = (4,),
    ) -> None:
        super().__init__()
        self.buckets = size("buckets", buckets, 2, 4_000_000)
        self.orders = sizes("orders", orders, 1, 16)
        check_total("vectors of n-grams", buckets * width)
        self.vectors = Vectors(_START * torch.randn(buckets, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.texts_K: Tensor  # how many texts have a bucket's n-grams; bucket 0 is in every text
        self.log_K: Tensor  # log(1 + texts_K)
        self.register_buffer("texts_K", torch.zeros(buckets, dtype=torch.int64))
        self.register_buffer("log_K", torch.zeros(buckets))
        self.powers_2T = _powers(shape[0] + _FRAME)

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        bucket_BN = self.decode(x, length_B)
        w_BN, weight = self.weights(bucket_BN), self.vectors
        if torch.compiler.is_exporting():  # ONNX makes a bag a slow loop
            v_BND = functional.embedding(bucket_BN, weight)
            h_BD = torch.bmm(w_BN.unsqueeze(1), v_BND).squeeze(1)
        else:
            h_BD = functional.embedding_bag(bucket_BN, weight, mode="sum", per_sample_weights=w_BN)
        return self.norm(h_BD)

    def dense(self, x: Tensor, length_B: Tensor | None) -> tuple[Tensor, Sequence[Layer]] | None:
        if not x.is_cpu:
            return None
        bucket_BN = self.decode(x, length_B)
        return self.weights(bucket_BN), (Bag(self.vectors, bucket_BN), self.norm)

    def weights(self, bucket_BN: Tensor) -> Tensor:
        """w of each n-gram; 0 where there is none."""
        idf_BN = (self.log_K[0] + 1 - self.log_K[bucket_BN]) * (bucket_BN != 0)
        return idf_BN / idf_BN.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)

    def observe(self, x: Tensor, length_B: Tensor | None = None) -> None:
        bucket_BN, _ = self.decode(x, length_B).sort(1)
        first_BN = functional.pad(bucket_BN[:, 1:] != bucket_BN[:, :-1], (1, 0), value=True)
        bucket_M = bucket_BN[first_BN]
        self.texts_K.index_add_(0, bucket_M, torch.ones_like(bucket_M))
        self.log_K[bucket_M] = self.texts_K[bucket_M].float().log1p()

    def decode(self, x: Tensor, length_B: Tensor | None = None) -> Tensor:
        """Buckets of all n-grams inside a text, with its spaces around it; 0 beyond its end, and first of all."""
        if x.dtype == torch.int64:
            return x
        if length_B is None:
            length_B = (x != 0).sum(1)
        byte_BT = self._framed(x, length_B)
        at_T = torch.arange(byte_BT.shape[1] + 1, device=x.device)
        power_T, inverse_T = self.powers_2T.to(x.device)[:, : len(at_T) - 1]
        sum_BT = functional.pad(((byte_BT + 1) * power_T).cumsum(1), (1, 0))
        found = [torch.zeros_like(byte_BT[:, :1])]
        for n in self.orders:
            if byte_BT.shape[1] >= n:
                hashed_BT = ((sum_BT[:, n:] - sum_BT[:, :-n]) & _WORD) * inverse_T[: len(at_T) - n]
                inside_BT = at_T[:-n] + n <= length_B[:, None] + _FRAME
                found.append(self._bucket(hashed_BT + n * _SPREAD) * inside_BT)
        return torch.cat(found, 1)

    def _framed(self, x: Tensor, length_B: Tensor) -> Tensor:
        """The bytes as numbers, letters lowered, spaces around; on CPU no wider than the longest text."""
        fixed = not x.is_cpu or torch.compiler.is_exporting()
        longest = x.shape[1] if fixed else int(length_B.max())
        byte_BT = functional.pad(x[:, :longest].long(), (1, _FRAME - 1))
        at_T = torch.arange(byte_BT.shape[1], device=x.device)
        byte_BT = torch.where((byte_BT >= 65) & (byte_BT <= 90), byte_BT + 32, byte_BT)
        return torch.where((at_T > length_B[:, None]) | (at_T == 0), 32, byte_BT)

    def _bucket(self, hashed: Tensor) -> Tensor:
        """1 .. buckets - 1 from the lowest 32 bits."""
        hashed = hashed & _WORD
        hashed = ((hashed ^ (hashed >> 15)) * _SPREAD) & _WORD
        return ((hashed ^ (hashed >> 13)) * (self.buckets - 1) >> 32) + 1


def _powers(n: int) -> Tensor:
    """`_BASE`^t and `_BASE`^-t modulo 2^32 for t below n: with them the hash of any part of a text is a difference of two sums."""
    inverse = pow(_BASE, -1, _WORD + 1)
    rows = [[pow(base, t, _WORD + 1) for t in range(n)] for base in (_BASE, inverse)]
    return torch.tensor(rows, dtype=torch.int64)
