"""Losses that bring their derivatives: the numbers of autograd, for few outputs and for many."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtl_engine import losses
from mtl_engine.losses import Known

ROWS = 7


def made(*shape: int, seed: int = 0, size: float = 3.0) -> Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(columns: int) -> Tensor:
    return torch.arange(ROWS) * 3 % columns


def agree(found: Known, loss: Tensor, z_BC: Tensor) -> None:
    """The loss and its gradient by autograd are what was found by hand; columns without a gradient may be left out."""
    [g_BC] = torch.autograd.grad(loss, [z_BC])
    rows, columns = found.g_BC.shape
    assert float(found.value) * found.factor == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)
    torch.testing.assert_close(
        found.g_BC * found.g_factor, g_BC[len(z_BC) - rows :, :columns], rtol=1e-5, atol=1e-6
    )
    assert g_BC.count_nonzero() == g_BC[len(z_BC) - rows :, :columns].count_nonzero()


@pytest.mark.parametrize("columns", [2, 10, 64, 65, 1000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shifted", ["", "classes", "rows"])
def test_cross_entropy_by_hand_is_that_of_autograd(
    columns: int, weighted: bool, shifted: str
) -> None:
    z_BC, y_B = made(ROWS, columns).requires_grad_(), labels(columns)
    weight_B = made(ROWS, seed=1).abs() * (torch.arange(ROWS) != 2) if weighted else None
    shift = made(*([ROWS] if shifted == "rows" else []), columns, seed=2) if shifted else None
    loss = 0.5 * losses.cross_entropy(z_BC, y_B, weight_B, shift)
    agree(losses.cross_entropy_by_hand(z_BC.detach(), y_B, weight_B, shift, 0.5), loss, z_BC)


@pytest.mark.parametrize("columns", [4, 200])
def test_a_closed_column_gets_no_gradient(columns: int) -> None:
    shift_C = torch.zeros(columns)
    shift_C[1] = losses.CLOSED
    found = losses.cross_entropy_by_hand(
        made(ROWS, columns), torch.zeros(ROWS, dtype=torch.int64), None, shift_C
    )
    assert not found.g_BC[:, 1].any()
    assert found.g_BC[:, 0].all()


@pytest.mark.parametrize("columns", [1, 3, 5])
def test_distillation_by_hand_is_that_of_autograd_in_the_columns_of_the_teacher(
    columns: int,
) -> None:
    z_BC, teacher_BC = made(ROWS, 5).requires_grad_(), made(ROWS, columns, seed=1)
    loss = losses.soft_cross_entropy(z_BC, teacher_BC, 2.0)
    agree(losses.soft_cross_entropy_by_hand(z_BC.detach(), teacher_BC, 2.0), loss, z_BC)


@pytest.mark.parametrize("valid", [False, True])
def test_the_distance_to_stored_outputs_is_that_of_the_last_rows(valid: bool) -> None:
    z_BC, stored_MC = made(ROWS, 5).requires_grad_(), made(3, 4, seed=1).half()
    valid_MC = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]) if valid else None
    entries = 6 if valid else 12
    mask = 1.0 if valid_MC is None else valid_MC
    d_MC = (z_BC[-3:, :4] - stored_MC) * mask
    error = losses.stored_error(z_BC.detach(), stored_MC, valid_MC, entries)
    agree(error, (d_MC**2).sum() / entries, z_BC)
    d_MC = (z_BC[-3:, :4] - stored_MC) * mask
    huber = 2 * functional.huber_loss(d_MC, torch.zeros_like(d_MC), reduction="sum", delta=1.5) / 3
    agree(losses.stored_huber(z_BC.detach(), stored_MC, valid_MC, 1.5), huber, z_BC)
