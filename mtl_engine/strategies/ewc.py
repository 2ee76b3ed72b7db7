"""Online elastic weight consolidation: parameters that mattered are held where they were."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl_engine.strategies.base import Boundary, Step, Strategy, factor
from mtl_engine.strategies.loss import Loss
from mtl_engine.types import Json

_OPS: Any = (
    torch  # operations on many tensors at once are private, and there is no other way to them
)


class EWC(Strategy):
    """L = loss(stream) + 1/2 sum_i min(strength * F_i, cap) (w_i - a_i)^2. Replays nothing.

    At a boundary F <- decay * F + mean over rows of (dloss(row)/dw)^2, and a <- w. Gradients are squared row by
    row: the square of a batch's mean gradient is smaller by about the size of the batch. The rows are at most `rows`
    of those in memory, of every phase that is in it, with the labels they came with (the empirical Fisher
    information). Columns that a head has grown since are free. SGD diverges where lr * min(strength * F, cap)
    exceeds 2, hence `cap`. The reported loss is that of the stream.

    Schwarz et al. 2018, "Progress and compress" (arXiv 1805.06370), after Kirkpatrick et al. 2017
    (arXiv 1612.00796). The papers take rows of the phase that ends, and keep none. Made for tasks or domains that
    follow each other; on classes that do it is no better than `finetune`.
    """

    replays: ClassVar[bool] = False

    def __init__(
        self, strength: float = 30.0, decay: float = 0.9, rows: int = 200, cap: float = 10.0
    ) -> None:
        self.strength, self.cap = factor("strength", strength), factor("cap", cap)
        self.decay = factor("decay", decay, 0.0, 1.0)
        self.rows = int(factor("rows", rows, 1, 100_000))
        self.step = 0  # of the last boundary
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self._held: dict[str, Tensor] = {}  # min(strength * F, cap)

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: task.loss() for name, task in step.tasks.items()}

    def correct(
        self, parameters: Mapping[str, nn.Parameter], reference: Mapping[str, Tensor]
    ) -> None:
        """dL/dw += min(strength * F, cap) (w - a)."""
        trained = [name for name in self.anchor if parameters[name].requires_grad]
        if not trained:
            return
        g: list[Tensor] = []
        w: list[Tensor] = []
        for name in trained:
            parameter, old = parameters[name], _within(self.anchor[name])
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            g.append(parameter.grad[old])
            w.append(parameter.detach()[old])
        moved = _OPS._foreach_sub(w, [self.anchor[name] for name in trained])
        _OPS._foreach_addcmul_(g, moved, [self._held[name] for name in trained])

    @torch.no_grad()
    def consolidate(self, boundary: Boundary) -> None:
        if boundary.step == self.step:
            return  # nothing was learned since: the rows must not count twice
        fresh: dict[str, Tensor] = {}
        count = 0
        for gradient in boundary.row_gradients(self.rows):
            count += 1
            for name, g in gradient.items():
                fresh[name] = fresh[name].addcmul_(g, g) if name in fresh else g.square()
        for name in {**self.fisher, **fresh}:
            parameter = boundary.parameters[name]
            f = fresh[name] / count if name in fresh else torch.zeros_like(parameter)
            if name in self.fisher:
                f[_within(self.fisher[name])] += self.decay * self.fisher[name]
            self.fisher[name] = f.nan_to_num_()  # absurd rows: held by `cap`, not for ever infinite
            self.anchor[name] = parameter.detach().clone()
        self.step = boundary.step
        self._hold()

    def forget(self, names: Collection[str]) -> None:
        for kept in (self.fisher, self.anchor, self._held):
            for name in names:
                kept.pop(name, None)

    def state(self) -> tuple[Json, dict[str, Tensor]]:
        tensors = {f"fisher.{name}": value for name, value in self.fisher.items()}
        tensors |= {f"anchor.{name}": value for name, value in self.anchor.items()}
        return {"step": self.step, "names": list(self.fisher)}, tensors

    def load_state(self, meta: Json, tensors: Mapping[str, Tensor]) -> None:
        names: list[str] = meta.get("names", [])
        self.step = int(meta.get("step", 0))
        self.fisher = {name: tensors[f"fisher.{name}"] for name in names}
        self.anchor = {name: tensors[f"anchor.{name}"] for name in names}
        self._hold()

    def _hold(self) -> None:
        self._held = {
            name: (self.strength * f).clamp_(max=self.cap) for name, f in self.fisher.items()
        }


def _within(old: Tensor) -> tuple[slice, ...]:
    """The part of a tensor that has grown since."""
    return tuple(slice(n) for n in old.shape)
