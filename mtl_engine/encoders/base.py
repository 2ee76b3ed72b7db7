"""What every encoder provides: features of the trunk's width from rows as they are kept in replay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError
from mtl_engine.tape import Layer


class Encoder(nn.Module, ABC):
    """Ends in a Linear layer to the trunk's width, without an activation: the trunk starts with one."""

    observes: ClassVar[bool] = False  # whether a class has an `observe` of its own

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.observes = cls.observe is not Encoder.observe

    @abstractmethod
    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        """Features [B, width] in float32 from inputs in the dtype they came in."""

    def decode(self, x: Tensor, length_B: Tensor | None = None) -> Tensor:
        """What `forward` takes as well as x, and other models' encoders of the same kind do too: bytes as numbers."""
        del length_B
        return x

    def dense(self, x: Tensor, length_B: Tensor | None) -> tuple[Tensor, Sequence[Layer]] | None:
        """Float inputs without parameters and the layers of a tape after them, if that is all of it.

        Such an encoder's gradients are worked out by hand, which is faster; None leaves them to autograd. The layers are
        those of `layers_of`, which is called once, when the modules are made, or a `Bag`, which knows its rows.
        """
        del x, length_B
        return None

    def observe(self, x: Tensor, length_B: Tensor | None = None) -> None:
        """Running statistics of stream rows, before they are encoded."""


def as_float(x: Tensor, scale: float) -> Tensor:
    """Float32 inputs; bytes times `scale`, in one pass. On CPU numpy's: torch wakes its threads for it."""
    if x.dtype != torch.uint8:
        return x.float()
    if x.device.type == "cpu" and not torch.compiler.is_exporting():
        return torch.from_numpy(np.multiply(x.numpy(), np.float32(scale), dtype=np.float32))
    return torch.mul(x, scale)


MAX_LAYERS = 16  # in one list of an encoder's arguments
MAX_WEIGHTS = (
    1 << 27
)  # of an encoder's layers or vectors: 512 MiB, and up to three times as much with moments


def size(name: str, value: object, low: int, high: int) -> int:
    """A whole number from low to high; arguments of encoders may come over the log."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise EngineError(
            f"{name} of an encoder is {value!r}: allowed are whole numbers from {low} to {high}"
        )
    return value


def sizes(
    name: str, values: object, low: int, high: int, most: int = MAX_LAYERS
) -> tuple[int, ...]:
    """A list of whole numbers from low to high, at most `most` of them."""
    if not isinstance(values, (list, tuple)):
        raise EngineError(f"{name} of an encoder is {values!r}: allowed is a list of whole numbers")
    found = cast("Sequence[object]", values)
    if len(found) > most:
        raise EngineError(f"{name} of an encoder has {len(found)} entries: allowed are {most}")
    return tuple(size(name, value, low, high) for value in found)


def check_total(what: str, numbers: int, most: int = MAX_WEIGHTS) -> None:
    """Refuse what would not fit in memory before it is made."""
    if numbers > most:
        raise EngineError(
            f"{what} of an encoder would be {numbers} numbers: allowed are {most}; choose smaller sizes"
        )


def fully_connected(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers from width to width with ReLU between them."""
    check_total(
        f"layers of widths {', '.join(map(str, widths))}",
        sum(wide * narrow for wide, narrow in pairwise(widths)),
    )
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return layers[:-1]
