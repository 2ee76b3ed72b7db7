"""The forward and backward pass of a step: by hand through fully connected layers, by autograd through all else.

On a small net autograd's own work (recording, its engine, accumulating) costs about as much as the arithmetic.
The layers of the trunk, the heads and most encoders are few and simple, so their gradients are written out here;
autograd differentiates what a strategy makes of the outputs, and encoders that are more than such layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mtl_engine.batch import Joined
from mtl_engine.errors import EngineError
from mtl_engine.model import Head, Model
from mtl_engine.types import Array

_ATEN: Any = torch.ops.aten
_relu_backward: Any = _ATEN.threshold_backward.default
_norm_backward: Any = _ATEN.native_layer_norm_backward.default


class Pass(ABC):
    """One step's way through the model and back; made for every step."""

    @abstractmethod
    def features(self, joined: Sequence[Joined]) -> list[Tensor]:
        """Trunk features of each joined batch: one encode a table, one trunk for all rows."""

    @abstractmethod
    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        """Outputs of a task's head for some rows of a batch (None = all); `detached`: the trunk learns nothing from them."""

    @abstractmethod
    def backward(self, total: Tensor) -> None:
        """Leave dtotal/dw in the `grad` of every parameter that has a part in `total`; they must be None before."""


class AutogradPass(Pass):
    """Everything by autograd, which also knows mixed precision."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts: list[Tensor] = []

    def features(self, joined: Sequence[Joined]) -> list[Tensor]:
        h = [self._model.encode(j.table, j.x, j.length_B) for j in joined]
        self._parts = _split(self._model.trunk(_cat(h)), joined)
        return self._parts

    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        f_BD = _rows(self._parts[part], row_B)
        return self._model.z(task, f_BD.detach() if detached else f_BD)

    def backward(self, total: Tensor) -> None:
        if total.requires_grad:
            total.backward()


@dataclass(slots=True)
class _Asked:
    """Outputs that were asked for, and what they were made from."""

    head: Head
    part: int
    row_B: Array | None
    f_BD: Tensor
    z_BC: Tensor
    detached: bool


class HandPass(Pass):
    """The gradients of layers by hand; the same numbers as autograd's up to the order of their sums."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts: list[Tensor] = []
        self._encoded: list[Tape | Tensor] = []  # Tensor: by autograd
        self._trunk = Tape(model.trunk.sequence)
        self._asked: list[_Asked] = []

    @torch.no_grad()
    def features(self, joined: Sequence[Joined]) -> list[Tensor]:
        h = [self._encode(j) for j in joined]
        self._parts = _split(self._trunk.forward(_cat(h)), joined)
        return self._parts

    @torch.no_grad()
    def z(self, task: str, part: int, row_B: Array | None, *, detached: bool) -> Tensor:
        f_BD, head = _rows(self._parts[part], row_B), self._model.head(task)
        z_BC = head(f_BD).requires_grad_()
        self._asked.append(_Asked(head, part, row_B, f_BD, z_BC, detached))
        return z_BC

    def backward(self, total: Tensor) -> None:
        total.backward()  # from the loss to the outputs
        with torch.no_grad():
            parts = self._heads()
            if all(g is None for g in parts):
                return
            g = [torch.zeros_like(f) if g is None else g for g, f in zip(parts, self._parts, strict=True)]  # fmt: skip
            g_BD = cast("Tensor", self._trunk.backward(_cat(g), needs_input=True))
            starts = g_BD.split([len(part) for part in g]) if len(g) > 1 else [g_BD]
        for encoded, g_BD in zip(self._encoded, starts, strict=True):
            if isinstance(encoded, Tensor):
                if encoded.requires_grad:
                    encoded.backward(g_BD)
            else:
                with torch.no_grad():
                    encoded.backward(g_BD, needs_input=False)

    def _encode(self, joined: Joined) -> Tensor:
        dense = self._model.encoder(joined.table).dense(joined.x, joined.length_B)
        if dense is None:
            with torch.enable_grad():
                h_BD = self._model.encode(joined.table, joined.x, joined.length_B)
            self._encoded.append(h_BD)
            return h_BD.detach()
        tape = Tape(dense[1])
        self._encoded.append(tape)
        return tape.forward(dense[0])

    def _heads(self) -> list[Tensor | None]:
        """Gradients of the heads' parameters; returns those of the trunk's features by part, None = none."""
        parts: list[Tensor | None] = [None] * len(self._parts)
        for asked in self._asked:
            g_BC, head = asked.z_BC.grad, asked.head
            if g_BC is None:
                continue
            g_BC = g_BC if head.gain == 1.0 else g_BC * head.gain
            _linear_grads(head.weight, head.bias, asked.f_BD, g_BC)
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


class Tape:
    """One way through Linear, LayerNorm and ReLU layers, and back.

    y = x W^T + b: dW = g^T x, db = sum_B g, dx = g W. ReLU: dx = g where y > 0. LayerNorm: torch's kernel.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self._layers = list(layers)
        self._saved: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        given = x
        for layer in self._layers:
            if isinstance(layer, nn.Linear):
                self._saved.append((x,))
                x = torch.nn.functional.linear(x, layer.weight, layer.bias)
            elif isinstance(layer, nn.ReLU):
                x = (
                    x.relu() if x is given else x.relu_()
                )  # what a layer before made, nobody else has
                self._saved.append((x,))
            elif isinstance(layer, nn.LayerNorm):
                y, mean, rstd = torch.native_layer_norm(
                    x, layer.normalized_shape, layer.weight, layer.bias, layer.eps
                )
                self._saved.append((x, mean, rstd))
                x = y
            else:
                raise EngineError(f"no gradient by hand for {type(layer).__name__}: let `dense` return None")  # fmt: skip
        return x

    def backward(self, g: Tensor, *, needs_input: bool) -> Tensor | None:
        """Gradients of the parameters, and of the input if it is needed."""
        for at in range(len(self._layers) - 1, -1, -1):
            layer, (x, *more) = self._layers[at], self._saved[at]
            if isinstance(layer, nn.Linear):
                _linear_grads(layer.weight, layer.bias, x, g)
                if at == 0 and not needs_input:
                    return None
                g = g @ layer.weight
            elif isinstance(layer, nn.ReLU):
                g = _relu_backward(g, x, 0)
            elif isinstance(layer, nn.LayerNorm):
                wanted = [at > 0 or needs_input, layer.elementwise_affine, layer.elementwise_affine]
                g, *of = _norm_backward(g, x, layer.normalized_shape, *more, layer.weight, layer.bias, wanted)  # fmt: skip
                if layer.elementwise_affine:
                    _add(layer.weight, of[0])
                    _add(layer.bias, of[1])
        return g


def _linear_grads(weight: Tensor, bias: Tensor, x: Tensor, g: Tensor) -> None:
    if weight.requires_grad:
        _add(weight, g.t() @ x)
        _add(bias, g.sum(0))


def _add(parameter: Tensor, g: Tensor) -> None:
    parameter.grad = g if parameter.grad is None else parameter.grad + g


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _split(f_BD: Tensor, joined: Sequence[Joined]) -> list[Tensor]:
    return list(f_BD.split([len(j) for j in joined])) if len(joined) > 1 else [f_BD]


def _rows(f_BD: Tensor, row_B: Array | None) -> Tensor:
    if row_B is None:
        return f_BD
    return f_BD.index_select(0, torch.from_numpy(row_B).to(f_BD.device))
