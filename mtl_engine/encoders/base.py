"""What every encoder provides: features of the trunk's width from rows as they are kept in replay."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError


class Encoder(nn.Module, ABC):
    """Ends in a Linear layer to the trunk's width, without an activation: the trunk starts with one."""

    @abstractmethod
    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        """Features [B, width] in float32 from inputs in the dtype they came in."""

    def observe(self, x: Tensor) -> None:
        """Running statistics of stream rows, before they are encoded."""


def as_float(x: Tensor, scale: float) -> Tensor:
    """Float32 inputs; bytes times `scale`, in one pass."""
    if x.dtype == torch.uint8:
        return torch.mul(x, scale)
    return x.float()


def size(name: str, value: object, low: int, high: int) -> int:
    """A whole number from low to high; arguments of encoders may come over the log."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise EngineError(
            f"{name} of an encoder is {value!r}: allowed are whole numbers from {low} to {high}"
        )
    return value
