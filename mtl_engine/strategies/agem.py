"""Averaged gradient episodic memory: no step may raise the loss of remembered rows, to first order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl_engine.strategies.base import Step, Strategy
from mtl_engine.strategies.loss import Loss

_OPS: Any = (
    torch  # operations on many tensors at once are private, and there is no other way to them
)
_LEAST = 1e-30  # squared length of a reference gradient, below which there is nothing to project on


class AGEM(Strategy):
    """L = loss(stream), with g <- g - min(0, g.r / r.r) r, where r is the gradient of loss(replayed).

    After it g.r >= 0: the gradient is orthogonal to r where it was opposed to it, and unchanged elsewhere. Both are
    taken over all parameters; one that only one of the two losses reaches has zeros in the other's gradient.
    Chaudhry et al. 2019, "Efficient lifelong learning with A-GEM" (arXiv 1812.00420). The paper replays rows of
    earlier tasks; without boundaries that are known, the memory has rows of the present one too.
    """

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: task.stream_loss() for name, task in step.tasks.items() if task.num_stream}

    def references(self, step: Step) -> dict[str, Loss]:
        return {name: task.memory_loss() for name, task in step.tasks.items() if task.num_memory}

    def correct(
        self, parameters: Mapping[str, nn.Parameter], reference: Mapping[str, Tensor]
    ) -> None:
        if not reference:
            return
        g: list[Tensor] = []
        for name in reference:
            parameter = parameters[name]
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            g.append(parameter.grad)
        r = list(reference.values())
        factor = (_dot(g, r) / _dot(r, r).clamp(min=_LEAST)).clamp(max=0.0)
        _OPS._foreach_sub_(g, _OPS._foreach_mul(r, factor))


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack(
        [torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)]
    ).sum()
