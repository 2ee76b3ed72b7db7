"""The forward and backward pass of a step: by hand through fully connected layers, by autograd through all else.

On a small net autograd's own work (recording, its engine, accumulating) costs about as much as the arithmetic.
The layers of the trunk, the heads and most encoders are few and simple, so their gradients are written out here,
from dloss/dz, which losses bring along, on down. Autograd differentiates encoders that are more than such layers,
and what a strategy makes of outputs by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtl_engine.batch import Joined
from mtl_engine.losses import Numbers, numbers, tensor
from mtl_engine.model import Head, Model
from mtl_engine.strategies.loss import Factor, Parts, summed
from mtl_engine.tape import AnyProduct, Product, Tape
from mtl_engine.types import Array


class Pass(ABC):
    """One step's way through the model and back; made for every step, and used while gradients are off."""

    @abstractmethod
    def features(self, joined: Sequence[Joined]) -> Sequence[Tensor]:
        """Trunk features of each joined batch: one encode a table, one trunk for all rows."""

    @abstractmethod
    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        """Outputs of a task's head for some rows of a batch (None = all); `detached`: the trunk learns nothing from them."""

    @abstractmethod
    def backward(self, parts: Parts, *, again: bool = False) -> Sequence[AnyProduct]:
        """Leave the gradient of the sum of loss * factor in the `grad` of parameters, which must be None before.

        What is returned belongs to it, too: products that the optimizer may use as they are, or multiply out.
        `again`: it will be called once more, for other losses of the step.
        """


class AutogradPass(Pass):
    """Everything from dloss/dz on by autograd."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts: Sequence[Tensor] = ()
        self._z: dict[str, Tensor] = {}

    @torch.enable_grad()
    def features(self, joined: Sequence[Joined]) -> Sequence[Tensor]:
        h = [self._model.encode(j.table, j.x, j.length_B) for j in joined]
        self._parts = _split(self._model.trunk(_cat(h)), [len(j) for j in joined])
        return self._parts

    @torch.enable_grad()
    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        f_BD = _rows(self._parts[part], row_B)
        self._z[task] = self._model.z(task, f_BD.detach() if detached else f_BD)
        return self._z[task]

    def backward(self, parts: Parts, *, again: bool = False) -> Sequence[AnyProduct]:
        roots: list[Tensor] = []
        gradients: list[Tensor | None] = []
        for task, g_BC in _outputs_gradients(parts, self._z).items():
            if self._z[task].requires_grad:
                roots.append(self._z[task])
                gradients.append(g_BC.to(self._z[task].dtype))
        total = _beside(parts)
        if total is not None:
            roots.append(total)
            gradients.append(None)
        if roots:
            torch.autograd.backward(roots, gradients, retain_graph=again)
        return ()


class MixedPass(AutogradPass):
    """Forward in bfloat16 where torch's autocast thinks it safe; parameters and losses stay in float32."""

    def features(self, joined: Sequence[Joined]) -> Sequence[Tensor]:
        with self._autocast():
            return super().features(joined)

    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        with self._autocast():
            return super().z(task, part, row_B, detached=detached)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._model.device.type, torch.bfloat16)


@dataclass(slots=True)
class _Asked:
    """Outputs that were asked for, and what they were made from."""

    head: Head
    part: int
    row_B: Array | None
    f_BD: Tensor
    detached: bool


class HandPass(Pass):
    """The gradients of layers by hand; the same numbers as autograd's up to the order of their sums."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts: Sequence[Tensor] = ()
        self._encoded: list[Tape | Tensor] = []  # Tensor: by autograd
        self._products: list[AnyProduct] = []
        self._trunk = Tape(model.trunk.layers, self._products)
        self._asked: dict[str, _Asked] = {}
        self._z: dict[str, Tensor] = {}

    def features(self, joined: Sequence[Joined]) -> Sequence[Tensor]:
        h = [self._encode(j) for j in joined]
        self._parts = _split(self._trunk.forward(_cat(h)), [len(j) for j in joined])
        return self._parts

    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        f_BD, head = _rows(self._parts[part], row_B), self._model.head(task)
        self._asked[task] = _Asked(head, part, row_B, f_BD, detached)
        self._z[task] = head.forward(f_BD)
        return self._z[task]

    def backward(self, parts: Parts, *, again: bool = False) -> Sequence[AnyProduct]:
        self._products.clear()
        found = self._heads(self._outputs(parts, again))
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

    def _outputs(self, parts: Parts, again: bool) -> dict[str, Tensor]:
        """dtotal/dz by task: of terms, and by autograd of what strategies made of outputs themselves."""
        found = _outputs_gradients(parts, self._z)
        total = _beside(parts)
        if total is not None:
            total.backward(retain_graph=again)
            for task, z_BC in self._z.items():
                if z_BC.grad is not None:
                    found[task] = z_BC.grad + found[task] if task in found else z_BC.grad
                    z_BC.grad = None
        return found

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

    def _heads(self, gradients: Mapping[str, Tensor]) -> list[Tensor | None]:
        """Gradients of the heads' parameters; returns those of the trunk's features by part, None = none."""
        parts: list[Tensor | None] = [None] * len(self._parts)
        for task, g_BC in gradients.items():
            asked = self._asked[task]
            head, (weight, bias) = asked.head, asked.head.layer
            g_BC = g_BC if head.gain == 1.0 else g_BC * head.gain
            if weight.requires_grad:  # not frozen
                self._products.append(Product(weight, bias, asked.f_BD, g_BC))
            if asked.detached:
                continue
            g_BD, known = g_BC @ weight, parts[asked.part]
            if asked.row_B is not None:
                row_B = torch.from_numpy(asked.row_B).to(g_BD.device)
                known = torch.zeros_like(self._parts[asked.part]) if known is None else known
                parts[asked.part] = known.index_add_(0, row_B, g_BD)
            else:
                parts[asked.part] = g_BD if known is None else known.add_(g_BD)
        return parts


def _outputs_gradients(parts: Parts, z: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the terms of losses say about dtotal/dz, by task in the order of `z`."""
    terms: dict[str, list[tuple[int, Tensor, Factor]]] = {}
    for loss, factor in parts:
        for one in loss.terms:
            terms.setdefault(one.task, []).append((one.start, one.g_BC, one.factor * factor))
    return {task: _added(terms[task], z[task].shape) for task in z if task in terms}


def _added(terms: Sequence[tuple[int, Tensor, Factor]], shape: torch.Size) -> Tensor:
    """Their sum, which may take the place of the first of them."""
    [(_, g_BC, factor), *more] = terms
    if g_BC.shape != shape:
        g_BC, more = g_BC.new_zeros(shape), terms
    elif not isinstance(factor, float) or factor != 1.0:
        g_BC = tensor(_times(g_BC, factor))
    elif any(g_NC is g_BC for _, g_NC, _ in more):
        g_BC = g_BC.clone()
    for start, g_NC, factor in more:
        to = numbers(g_BC)[start : start + g_NC.shape[0], : g_NC.shape[1]]
        to += _times(g_NC, factor)
    return g_BC


def _times(g_BC: Tensor, factor: Factor) -> Numbers:
    return numbers(g_BC) * (numbers(factor) if isinstance(factor, Tensor) else factor)


def _beside(parts: Parts) -> Tensor | None:
    """The sum of those values that have a graph."""
    found = [(loss.value, factor) for loss, factor in parts if loss.has_graph]
    if not found:
        return None
    with torch.enable_grad():
        return summed(found)


def gradient(way: Pass, parts: Parts, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The gradient of losses that are not trained on, by parameter, before that of those that are; `grad` is None after it."""
    for product in way.backward(parts, again=True):
        product.multiply()
    found = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    for parameter in parameters.values():
        parameter.grad = None
    return found


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _split(f_BD: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    return cast("Sequence[Tensor]", f_BD.split(sizes)) if len(sizes) > 1 else [f_BD]


def _rows(f_BD: Tensor, row_B: Array | None) -> Tensor:
    if row_B is None:
        return f_BD
    return f_BD.index_select(0, torch.from_numpy(row_B).to(f_BD.device))
