"""Loss functions that task kinds and strategies share; every one is a mean over rows and masks by weight.

A weight of 0 gives exactly zero gradient. All arithmetic is in float32, whatever the precision of the model.
Those that most steps use also come with their derivatives (`..._by_hand`), which cost a fraction of autograd's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtl_engine.types import Array

_ATEN: Any = torch.ops.aten
_nll: Any = _ATEN.nll_loss_forward.default
_nll_backward: Any = _ATEN.nll_loss_backward.default
_log_softmax_backward: Any = _ATEN._log_softmax_backward_data.default
_FEW, _FEW_COLUMNS = 4096, 64  # outputs and columns up to which numpy is faster than torch
_IGNORED = -100  # torch's label for rows to be left out; ours are masked by weight
# Added to a logit: its probability is exactly 0, its gradient too.
CLOSED = torch.finfo(torch.float32).min / 2


Numbers = Any  # a tensor, or on CPU an array: what both can do is written the same way


class Known(NamedTuple):
    """factor * value is a loss and g_factor * g its derivative with respect to the outputs; neither has a graph.

    Factors stand beside the tensors because whoever adds losses up multiplies for nothing: an operation on so few
    numbers costs about as much as ten on a number of Python's.
    """

    value: Tensor | float
    g_BC: Tensor
    factor: float = 1.0
    g_factor: float = 1.0


def by_autograd(loss: Callable[[Tensor], Tensor], z_BC: Tensor) -> Known:
    """A loss as a function of outputs, and its derivative there."""
    with torch.enable_grad():
        z_BC = z_BC.detach().requires_grad_()
        value = loss(z_BC)
        [g_BC] = torch.autograd.grad(value, [z_BC])
    return Known(value.detach(), g_BC)


def cross_entropy(
    z_BC: Tensor, y_B: Tensor, weight_B: Tensor | None, shift_C: Tensor | None = None
) -> Tensor:
    """Softmax cross-entropy of z + shift (for all rows [C], or for each [B, C]); a column shifted by `CLOSED` takes no part."""
    z_BC = z_BC.float()
    if shift_C is not None:
        z_BC = z_BC + shift_C
    if weight_B is None:
        return functional.cross_entropy(z_BC, y_B)
    return _weighted_mean(functional.cross_entropy(z_BC, y_B, reduction="none"), weight_B)


def cross_entropy_by_hand(
    z_BC: Tensor,
    y_B: Tensor,
    weight_B: Tensor | None,
    shift_C: Tensor | None = None,
    factor: float = 1.0,
) -> Known:
    """factor * `cross_entropy`, with dL/dz = factor weight (softmax(z + shift) - onehot(y)) / B, for float32."""
    p_BC = torch.log_softmax(z_BC if shift_C is None else z_BC + shift_C, 1)
    if p_BC.is_cpu and p_BC.shape[1] <= _FEW_COLUMNS and p_BC.numel() <= _FEW:
        return _cross_entropy_of_few(p_BC, y_B, weight_B, factor)
    if weight_B is None:
        loss, total = _nll(p_BC, y_B, None, 1, _IGNORED)
        g_BC = _nll_backward(_number(factor, loss.device), p_BC, y_B, None, 1, _IGNORED, total)
        return Known(loss, _log_softmax_backward(g_BC, p_BC, 1, torch.float32), factor)
    loss_B, total = _nll(p_BC, y_B, None, 0, _IGNORED)
    loss, mean = torch.dot(loss_B, weight_B), factor / len(y_B)
    g_BC = _nll_backward(weight_B, p_BC, y_B, None, 0, _IGNORED, total)
    return Known(loss, _log_softmax_backward(g_BC, p_BC, 1, torch.float32), mean, mean)


def _cross_entropy_of_few(
    p_BC: Tensor, y_B: Tensor, weight_B: Tensor | None, factor: float
) -> Known:
    """The rest of it from log-probabilities by numpy: five calls that cost half of what torch's three kernels do."""
    log_p: Array = p_BC.numpy()
    true_BC: Array = _one_hot(log_p.shape[1]).take(y_B.numpy(), 0)
    g_BC: Array = np.exp(log_p)
    if weight_B is not None:
        weight: Array = weight_B.numpy()[:, None]
        true_BC *= weight
        g_BC *= weight
    loss = _dot(log_p, true_BC)
    g_BC -= true_BC
    mean = factor / len(log_p)
    g_BC *= mean
    return Known(loss, tensor(g_BC), -mean)


def binary_cross_entropy(z_BC: Tensor, y_BC: Tensor, weight_BC: Tensor | None) -> Tensor:
    """Sigmoid cross-entropy, averaged over the labelled columns of a row."""
    if weight_BC is None:
        return functional.binary_cross_entropy_with_logits(z_BC.float(), y_BC)
    loss_BC = functional.binary_cross_entropy_with_logits(z_BC.float(), y_BC, reduction="none")
    return _columns_mean(loss_BC, weight_BC)


def squared_error(z_BC: Tensor, y_BC: Tensor, weight_BC: Tensor | None) -> Tensor:
    """Squared error, averaged over the labelled columns of a row."""
    if weight_BC is None:
        return functional.mse_loss(z_BC.float(), y_BC)
    return _columns_mean(functional.mse_loss(z_BC.float(), y_BC, reduction="none"), weight_BC)


def soft_cross_entropy(z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(z / T)) over the teacher's columns (Hinton et al. 2015, arXiv 1503.02531)."""
    z_BC = z_BC.float()[:, : teacher_BC.shape[1]]
    target_BC = functional.log_softmax(teacher_BC.float() / temperature, 1)
    found_BC = functional.log_softmax(z_BC / temperature, 1)
    return (
        functional.kl_div(found_BC, target_BC, reduction="batchmean", log_target=True)
        * temperature**2
    )


def soft_binary_cross_entropy(z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean binary KL divergence of each column from the teacher's."""
    z_BC = z_BC.float()[:, : teacher_BC.shape[1]] / temperature
    teacher_BC = teacher_BC.float() / temperature
    target_BC = torch.sigmoid(teacher_BC)
    cross = functional.binary_cross_entropy_with_logits(z_BC, target_BC)
    return (
        cross - functional.binary_cross_entropy_with_logits(teacher_BC, target_BC)
    ) * temperature**2


def soft_cross_entropy_by_hand(z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Known:
    """`soft_cross_entropy` and its gradient T (softmax(z / T) - softmax(teacher / T)) / B, for float32."""
    rows, columns = teacher_BC.shape
    parts = numbers(teacher_BC), numbers(z_BC)[:, :columns]
    both: Numbers = np.concatenate(parts) if z_BC.is_cpu else torch.cat(parts)
    both *= 1 / temperature
    log_both = numbers(torch.log_softmax(tensor(both), 1))  # of both in one call
    p_both = log_both.exp() if isinstance(log_both, Tensor) else np.exp(log_both)
    distance = _dot(p_both[:rows], log_both[:rows] - log_both[rows:])
    g_BC = tensor(p_both[rows:] - p_both[:rows])
    return Known(distance, g_BC, temperature**2 / rows, temperature / rows)


def stored_error(z_BC: Tensor, stored_MC: Tensor, valid_MC: Tensor | None, entries: int) -> Known:
    """Mean squared difference of the last M rows to stored outputs over the entries that existed when they were stored, and its gradient [M, C'].

    The mean is over those `entries`, so the factor in front does not depend on the width of the head. `valid_MC` is
    1 where an entry existed and 0 elsewhere.
    """
    d_MC, entries = _difference(z_BC, stored_MC, valid_MC), max(entries, 1)
    return Known(_dot(d_MC, d_MC), tensor(d_MC), 1 / entries, 2 / entries)


def stored_huber(z_BC: Tensor, stored_MC: Tensor, valid_MC: Tensor | None, bound: float) -> Known:
    """Difference d of the last M rows to stored outputs: d^2 up to |d| = bound, 2 bound |d| - bound^2 beyond; and its gradient dL/dz [M, C'].

    With c = d limited to [-bound, bound] a row's loss is the sum of c (2 d - c) over the entries that existed when it
    was stored, its gradient 2 c. The sum, unlike `stored_error`'s mean, is as stiff for a head of 2 columns as for one of 100.
    """
    d_MC = _difference(z_BC, stored_MC, valid_MC)
    c_MC, rows = clipped(d_MC, bound), d_MC.shape[0]
    loss = _dot(c_MC, d_MC - 0.5 * c_MC)
    return Known(loss, tensor(c_MC), 2 / rows, 2 / rows)


def _difference(z_BC: Tensor, stored_MC: Tensor, valid_MC: Tensor | None) -> Numbers:
    rows, columns = stored_MC.shape
    d_MC = numbers(z_BC)[z_BC.shape[0] - rows :, :columns] - numbers(stored_MC)
    return d_MC if valid_MC is None else d_MC * numbers(valid_MC)


def clipped(x: Numbers, most: float) -> Numbers:
    """x limited to [-most, most]."""
    if isinstance(x, Tensor):
        return x.clamp(-most, most)
    found: Array = np.minimum(x, most)
    return np.maximum(found, -most, out=found)


def _dot(x: Numbers, y: Numbers) -> Tensor | float:
    """Sum of the products; a number at once where it costs no wait."""
    if isinstance(x, Tensor):
        return (x * y).sum()
    return cast("float", np.vdot(x, y).item())


def numbers(x: Tensor) -> Numbers:
    """On CPU an array, whose operations cost a fraction of a tensor's where numbers are few."""
    return x.numpy() if x.is_cpu else x


def tensor(x: Numbers) -> Tensor:
    return x if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x))


@lru_cache(maxsize=_FEW_COLUMNS)
def _one_hot(columns: int) -> Array:
    """Row y is 1 in column y and 0 elsewhere."""
    return np.eye(columns, dtype=np.float32)


@lru_cache(maxsize=64)
def _number(value: float, device: torch.device) -> Tensor:
    return torch.full((), value, device=device)


def _weighted_mean(loss_B: Tensor, weight_B: Tensor) -> Tensor:
    return (loss_B * weight_B).sum() / loss_B.shape[0]


def _columns_mean(loss_BC: Tensor, weight_BC: Tensor) -> Tensor:
    labelled_B = (weight_BC > 0).sum(1).clamp(min=1)
    return ((loss_BC * weight_BC).sum(1) / labelled_B).sum() / loss_BC.shape[0]
