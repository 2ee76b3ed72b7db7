"""Layers by hand: the gradients of each are autograd's."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError
from mtl_engine.tape import AnyProduct, Bag, BagProduct, Product, Tape, layers_of


@pytest.mark.parametrize("affine", [True, False])
def test_gradients_of_layers_by_hand_are_those_of_autograd(affine: bool) -> None:
    norm = nn.LayerNorm(7, elementwise_affine=affine)
    layers = nn.Sequential(nn.ReLU(), nn.Linear(5, 7), norm, nn.ReLU(), nn.Linear(7, 3))
    x, g = torch.randn(4, 5, requires_grad=True), torch.randn(4, 3)
    layers(x).backward(g)
    expected = [parameter.grad for parameter in layers.parameters()]
    layers.zero_grad()
    with torch.no_grad():
        products: list[AnyProduct] = []
        tape = Tape(layers_of(layers), products)
        torch.testing.assert_close(tape.forward(x.detach()), layers(x))
        torch.testing.assert_close(tape.backward(g, needs_input=True), x.grad)
        for product in products:
            product.multiply()
    for parameter, of in zip(layers.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, of)


def test_what_was_given_is_not_written_to() -> None:
    x = torch.tensor([[-1.0, 2.0]])
    with torch.no_grad():
        Tape(layers_of([nn.ReLU(), nn.Linear(2, 2)]), []).forward(x)
    assert x.tolist() == [[-1.0, 2.0]]


def test_a_layer_without_a_gradient_by_hand_is_named() -> None:
    with pytest.raises(EngineError, match="Tanh: let `dense` return None"):
        layers_of([nn.Linear(2, 2), nn.Tanh()])


def test_the_length_of_a_product_is_that_of_its_gradients() -> None:
    layer = nn.Linear(50, 40).requires_grad_(False)
    product = Product(layer.weight, layer.bias, torch.rand(3, 50), torch.randn(3, 40))
    of_weight, of_bias = product.g_BO.t() @ product.x_BI, product.g_BO.sum(0)
    wanted = (of_weight.square().sum() + of_bias.square().sum()).item()
    assert product.square() == pytest.approx(wanted, rel=1e-5)


def test_the_length_is_exact_where_rows_cancel_and_none_where_it_overflows() -> None:
    layer = nn.Linear(50, 40).requires_grad_(False)
    for _ in range(20):
        g_BO = torch.randn(16, 40)
        alike_BI = 1e4 + torch.randn(
            16, 50
        )  # and gradients that sum to nothing: of the bound hardly anything is left
        product = Product(layer.weight, layer.bias, alike_BI, g_BO - g_BO.mean(0))
        of_weight = product.g_BO.double().t() @ product.x_BI.double()
        wanted = of_weight.square().sum().item()
        assert product.square() == pytest.approx(wanted, rel=0.02)
        product = Product(layer.weight, layer.bias, 1e15 * torch.randn(16, 50), 1e15 * g_BO)
        assert not math.isfinite(product.square())


def test_a_product_is_subtracted_as_its_gradient_would_be_and_is_never_longer_than_its_bound() -> (
    None
):
    layer = nn.Linear(5, 3).requires_grad_(False)
    for scale, multiplied in itertools.product((1e-3, 1.0, 1e3), (True, False)):
        product = Product(layer.weight, layer.bias, torch.randn(4, 5), scale * torch.randn(4, 3))
        weight, bias = layer.weight.clone(), layer.bias.clone()
        of_weight, of_bias = product.g_BO.t() @ product.x_BI, product.g_BO.sum(0)
        square = (of_weight.square().sum() + of_bias.square().sum()).item()
        assert square <= product.rows_bound() * (1 + 1e-6)
        assert product.rows_bound() <= product.square_bound() * (1 + 1e-6)
        if multiplied:
            assert product.square() == pytest.approx(square, rel=1e-4)
        product.descend(0.1)
        torch.testing.assert_close(layer.weight, weight - 0.1 * of_weight)
        torch.testing.assert_close(layer.bias, bias - 0.1 * of_bias)


def bagged() -> tuple[Bag, Tensor, Tensor, Tensor]:
    """A bag of eight vectors, places that repeat one and that are empty, and what autograd says of it."""
    bucket_BN = torch.tensor([[0, 3, 5, 3], [0, 7, 0, 0], [0, 3, 1, 7]])
    x_BN, g_BD = torch.rand(3, 4) * (bucket_BN != 0), torch.randn(3, 6)
    weight = torch.randn(8, 6, requires_grad=True)
    (x_BN[..., None] * weight[bucket_BN]).sum(1).backward(g_BD)
    assert weight.grad is not None
    return Bag(weight.detach(), bucket_BN), x_BN, g_BD, weight.grad


def test_the_gradient_of_a_bag_is_that_of_autograd() -> None:
    bag, x_BN, g_BD, expected = bagged()
    products: list[AnyProduct] = []
    tape = Tape([bag, nn.ReLU()], products)
    h_BD = (x_BN[..., None] * bag.weight[bag.bucket_BN]).sum(1).relu()
    torch.testing.assert_close(tape.forward(x_BN), h_BD)
    assert tape.backward(g_BD * (h_BD > 0), needs_input=False) is None
    assert isinstance(products[0], BagProduct)
    product = BagProduct.of(bag, x_BN, g_BD)
    assert product.row_U.tolist() == [1, 3, 5, 7]
    assert product.square() == pytest.approx(expected.square().sum().item(), rel=1e-5)
    product.multiply()
    torch.testing.assert_close(bag.weight.grad, expected)
    before = bag.weight.clone()
    product.descend(0.1)
    torch.testing.assert_close(bag.weight, before - 0.1 * expected)


def test_a_bag_of_nothing_has_no_gradient() -> None:
    bag = Bag(torch.randn(8, 6), torch.zeros(2, 3, dtype=torch.int64))
    product = BagProduct.of(bag, torch.zeros(2, 3), torch.randn(2, 6))
    before = bag.weight.clone()
    product.descend(1.0)
    assert torch.equal(bag.weight, before)
    assert product.square() == 0
