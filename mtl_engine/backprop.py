"""The forward and backward pass of a step: by hand through fully connected layers, by autograd through all else.

On a small net autograd's own work (recording, its engine, accumulating) costs about as much as the arithmetic.
The layers of the trunk, the heads and most encoders are few and simple, so their gradients are written out here,
from dloss/dz, which a task kind knows, on down. Autograd differentiates what a strategy makes of losses and outputs
beyond that, and encoders that are more than such layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtl_engine.batch import Joined
from mtl_engine.model import Head, Model
from mtl_engine.strategies.base import Leaf
from mtl_engine.tape import Product, Tape
from mtl_engine.types import Array

Factor = float | Tensor
Parts = Sequence[tuple[Tensor, Factor]]
"""Losses and what each counts in the sum that is differentiated."""


class Pass(ABC):
    """One step's way through the model and back; made for every step, and used while gradients are off."""

    @abstractmethod
    def features(self, joined: Sequence[Joined]) -> Sequence[Tensor]:
        """Trunk features of each joined batch: one encode a table, one trunk for all rows."""

    @abstractmethod
    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        """Outputs of a task's head for some rows of a batch (None = all); `detached`: the trunk learns nothing from them."""

    @abstractmethod
    def leaf(self, task: str) -> Leaf | None:
        """What takes losses of a task whose gradients are known; None where autograd is to find them."""

    @abstractmethod
    def backward(self, parts: Parts, *, again: bool = False) -> Sequence[Product]:
        """Leave the gradient of the sum of loss * factor in the `grad` of parameters, which must be None before.

        What is returned belongs to it, too: products that the optimizer may use as they are, or multiply out.
        `again`: it will be called once more, for other losses of the step.
        """


class AutogradPass(Pass):
    """Everything by autograd, which also knows mixed precision."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts: Sequence[Tensor] = ()

    @torch.enable_grad()
    def features(self, joined: Sequence[Joined]) -> Sequence[Tensor]:
        h = [self._model.encode(j.table, j.x, j.length_B) for j in joined]
        self._parts = _split(self._model.trunk(_cat(h)), [len(j) for j in joined])
        return self._parts

    @torch.enable_grad()
    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        f_BD = _rows(self._parts[part], row_B)
        return self._model.z(task, f_BD.detach() if detached else f_BD)

    def leaf(self, task: str) -> Leaf | None:
        return None

    @torch.enable_grad()
    def backward(self, parts: Parts, *, again: bool = False) -> Sequence[Product]:
        total = summed([(loss, factor) for loss, factor in parts if loss.requires_grad])
        if total is not None:
            total.backward(retain_graph=again)
        return ()


@dataclass(slots=True)
class _Asked:
    """Outputs that were asked for, and what they were made from."""

    head: Head
    part: int
    row_B: Array | None
    f_BD: Tensor
    z_BC: Tensor
    detached: bool
    known: list[_Known]


@dataclass(slots=True)
class _Known:
    """A loss whose gradient is known: dloss/dz of the rows from `start` on."""

    loss: Tensor
    start: int
    g_BC: Tensor
    factor: Factor = 0.0  # dtotal/dloss


class HandPass(Pass):
    """The gradients of layers by hand; the same numbers as autograd's up to the order of their sums."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts: Sequence[Tensor] = ()
        self._encoded: list[Tape | Tensor] = []  # Tensor: by autograd
        self._products: list[Product] = []
        self._trunk = Tape(model.trunk.sequence, self._products)
        self._asked: dict[str, _Asked] = {}

    def features(self, joined: Sequence[Joined]) -> Sequence[Tensor]:
        h = [self._encode(j) for j in joined]
        self._parts = _split(self._trunk.forward(_cat(h)), [len(j) for j in joined])
        return self._parts

    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        f_BD, head = _rows(self._parts[part], row_B), self._model.head(task)
        z_BC = head(f_BD).requires_grad_()
        self._asked[task] = _Asked(head, part, row_B, f_BD, z_BC, detached, [])
        return z_BC

    def leaf(self, task: str) -> Leaf:
        known = self._asked[task].known

        def leaf(start: int, loss: Tensor, g_BC: Tensor) -> Tensor:
            known.append(_Known(loss.requires_grad_(), start, g_BC))
            return loss

        return leaf

    def backward(self, parts: Parts, *, again: bool = False) -> Sequence[Product]:
        self._losses(parts, again)
        self._products.clear()
        found = self._heads()
        if again:
            self._clear()
        if all(g is None for g in found):
            return self._products
        g = [
            torch.zeros_like(f) if g is None else g for g, f in zip(found, self._parts, strict=True)
        ]
        g_BD = cast("Tensor", self._trunk.backward(_cat(g), needs_input=True))
        split = _split(g_BD, [len(part) for part in g])
        for encoded, g_BD in zip(self._encoded, split, strict=True):
            if isinstance(encoded, Tape):
                encoded.backward(g_BD, needs_input=False)
            elif encoded.requires_grad:
                encoded.backward(g_BD, retain_graph=again)
        return self._products

    def _losses(self, parts: Parts, again: bool) -> None:
        """How far each known loss counts, and by autograd what else strategies made of losses and outputs."""
        known = {id(one.loss): one for asked in self._asked.values() for one in asked.known}
        other: list[tuple[Tensor, Factor]] = []
        for loss, factor in parts:
            if id(loss) in known:
                known[id(loss)].factor = known[id(loss)].factor + factor
            elif loss.requires_grad:
                other.append((loss, factor))
        if not other:
            return
        with torch.enable_grad():
            total = summed(other)
        if total is not None:
            total.backward(retain_graph=again)
            for one in known.values():
                if one.loss.grad is not None:
                    one.factor = one.factor + one.loss.grad

    def _clear(self) -> None:
        """As before the first call of `backward`."""
        for asked in self._asked.values():
            asked.z_BC.grad = None
            for one in asked.known:
                one.factor, one.loss.grad = 0.0, None

    def _encode(self, joined: Joined) -> Tensor:
        dense = self._model.encoder(joined.table).dense(joined.x, joined.length_B)
        if dense is None:
            with torch.enable_grad():
                h_BD = self._model.encode(joined.table, joined.x, joined.length_B)
            self._encoded.append(h_BD)
            return h_BD.detach()
        tape = Tape(dense[1], self._products)
        self._encoded.append(tape)
        return tape.forward(dense[0])

    def _heads(self) -> list[Tensor | None]:
        """Gradients of the heads' parameters; returns those of the trunk's features by part, None = none."""
        parts: list[Tensor | None] = [None] * len(self._parts)
        for asked in self._asked.values():
            g_BC, head = _outputs_gradient(asked), asked.head
            if g_BC is None:
                continue
            g_BC = g_BC if head.gain == 1.0 else g_BC * head.gain
            if head.weight.requires_grad:  # not frozen
                self._products.append(Product(head.weight, head.bias, asked.f_BD, g_BC))
            if asked.detached:
                continue
            g_BD, known = g_BC @ head.weight, parts[asked.part]
            if asked.row_B is not None:
                row_B = torch.from_numpy(asked.row_B).to(g_BD.device)
                known = torch.zeros_like(self._parts[asked.part]) if known is None else known
                parts[asked.part] = known.index_add_(0, row_B, g_BD)
            else:
                parts[asked.part] = g_BD if known is None else known.add_(g_BD)
        return parts


def _outputs_gradient(asked: _Asked) -> Tensor | None:
    """dtotal/dz: what autograd found, and factor * dloss/dz of the known losses."""
    g_BC = asked.z_BC.grad
    for one in asked.known:
        if isinstance(one.factor, float) and one.factor == 0.0:
            continue  # a strategy looked at it and used something else
        of = one.g_BC if isinstance(one.factor, float) and one.factor == 1.0 else one.g_BC * one.factor  # fmt: skip
        if g_BC is None and len(of) == len(asked.z_BC):
            g_BC = of
        else:
            g_BC = torch.zeros_like(asked.z_BC) if g_BC is None else g_BC
            g_BC[one.start : one.start + len(of)] += of
    return g_BC


def gradient(way: Pass, parts: Parts, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The gradient of losses that are not trained on, by parameter, before that of those that are; `grad` is None after it."""
    for product in way.backward(parts, again=True):
        product.multiply()
    found = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    for parameter in parameters.values():
        parameter.grad = None
    return found


def summed(parts: Parts) -> Tensor | None:
    """Sum of loss * factor; None = nothing to sum."""
    total: Tensor | None = None
    for loss, factor in parts:
        part = loss if isinstance(factor, float) and factor == 1.0 else loss * factor
        total = part if total is None else total + part
    return total


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _split(f_BD: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    return cast("Sequence[Tensor]", f_BD.split(sizes)) if len(sizes) > 1 else [f_BD]


def _rows(f_BD: Tensor, row_B: Array | None) -> Tensor:
    if row_B is None:
        return f_BD
    return f_BD.index_select(0, torch.from_numpy(row_B).to(f_BD.device))
