"""The network: the stated layers, initial values from names alone, heads that grow, freeze and go."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mtl_engine.errors import EngineError, StateError
from mtl_engine.inputs import InputTable
from mtl_engine.model import Model, TrunkSpec
from mtl_engine.tape import Dense, Layer

CPU = torch.device("cpu")
IMAGES = InputTable("image-4x4-uint8-mlp", "image", (4, 4), "uint8", 1 / 255, {"name": "mlp"})
VECTORS = InputTable("embedding-3", "embedding", (3,), "float32", 1.0, {"name": "embedding"})


def model(seed: int = 0, norm: str = "none", **columns: int) -> Model:
    made = Model(TrunkSpec(8, 2, norm), seed, CPU)
    made.add_encoder(IMAGES)
    for task, count in columns.items():
        made.add_head(task, IMAGES.name)
        made.grow_head(task, count)
    return made


def test_without_norm_and_hidden_layers_it_is_a_plain_perceptron() -> None:
    made = model(a=3)
    values = dict(made.named_parameters())
    plain = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for layer, name in (
            (0, f"encoders.{IMAGES.name}.layers.0"),
            (2, "trunk.linears.0"),
            (4, "heads.task:a"),
        ):
            for part in ("weight", "bias"):
                plain[layer].get_parameter(part).copy_(values.pop(f"{name}.{part}"))
    assert not values
    x = torch.arange(32, dtype=torch.uint8).reshape(2, 4, 4)
    torch.testing.assert_close(made("a", x), plain(x.flatten(1) / 255))


def test_initial_values_depend_on_seed_and_name_and_not_on_what_else_there_is() -> None:
    small, large = model(a=2), model(b=4, a=2)
    large.add_encoder(VECTORS)
    values = dict(large.named_parameters())
    for name, parameter in small.named_parameters():
        assert torch.equal(parameter, values[name]), name
    assert not torch.equal(model(seed=1, a=2).heads["task:a"].weight, small.heads["task:a"].weight)


def test_making_a_model_leaves_torchs_own_generator_as_it_was() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    model(a=2)
    assert torch.equal(torch.rand(3), wanted)


def test_a_head_grown_in_steps_equals_one_grown_at_once() -> None:
    stepwise, at_once = model(a=1), model(a=5)
    for columns in (2, 5):
        stepwise.grow_head("a", columns)
    for one, other in zip(stepwise.parameters(), at_once.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_frozen_head_stays_frozen_when_it_grows() -> None:
    made = model(a=2)
    made.freeze_head("a", frozen=True)
    made.grow_head("a", 3)
    assert made.is_frozen("a")
    made.freeze_head("a", frozen=False)
    assert not made.is_frozen("a")


def test_the_last_head_of_a_table_takes_the_encoder_with_it() -> None:
    made = model(a=2, b=2)
    assert made.remove_head("a") == ["heads.task:a.bias", "heads.task:a.weight"]
    assert f"encoders.{IMAGES.name}.layers.0.weight" in made.remove_head("b")
    assert not made.tables


def test_a_task_may_have_a_name_that_torch_uses_itself() -> None:
    made = model(type=2, keys=1, forward=3)
    assert [made.columns(task) for task in ("type", "keys", "forward")] == [2, 1, 3]


def test_other_values_are_used_inside_and_put_back_even_after_an_error() -> None:
    made = model(a=2)
    x = torch.ones(1, 4, 4, dtype=torch.uint8)
    before = made("a", x)
    zeros = {name: torch.zeros_like(value) for name, value in made.named_parameters()}
    inside: list[bool] = []

    def failing() -> None:
        with made.using(zeros):
            inside.append(bool(made("a", x).any()))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert inside == [False]
    assert torch.equal(made("a", x), before)


def test_a_model_is_rebuilt_from_its_structure_and_tensors() -> None:
    made, other = model(a=2, b=3, norm="layer"), Model(TrunkSpec(8, 2, "layer"), 9, CPU)
    made.freeze_head("b", frozen=True)
    other.restructure(made.structure())
    other.load_tensors({name: value.detach() for name, value in made.tensors().items()})
    x = torch.from_numpy(np.arange(16, dtype=np.uint8).reshape(1, 4, 4))
    assert torch.equal(other("b", x), made("b", x))
    assert other.is_frozen("b")


def test_tensors_that_do_not_fit_are_refused() -> None:
    made = model(a=2)
    good = {name: value.detach() for name, value in made.tensors().items()}
    name = "heads.task:a.bias"
    for bad in (
        {k: v for k, v in good.items() if k != name},
        {**good, "more": torch.zeros(1)},
        {**good, name: torch.zeros(3)},
        {**good, name: torch.zeros(2, dtype=torch.float64)},
    ):
        with pytest.raises(StateError):
            made.load_tensors(bad)


@pytest.mark.parametrize("given", [{"width": 0}, {"depth": True}, {"norm": "batch"}])
def test_a_trunk_outside_its_limits_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="trunk"):
        TrunkSpec(**given)  # type: ignore[arg-type]


def test_the_short_way_through_the_layers_goes_through_the_models_own_parameters() -> None:
    made = model(a=2)
    copied = copy.deepcopy(made)
    made.grow_head("a", 5)
    copied.load_tensors({name: torch.ones_like(value) for name, value in copied.tensors().items()})
    with copied.using({"trunk.linears.0.weight": torch.zeros(8, 8)}):
        assert not _lookups(copied)["trunk.linears.0.weight"].any()
    for one in (made, copied, copied.to(CPU)):
        values = dict(one.named_parameters())
        found = _lookups(one)
        assert found.keys() == values.keys()
        assert all(found[name] is values[name] for name in values)


def _lookups(one: Model) -> dict[str, torch.Tensor]:
    """Parameters as steps and teachers find them, by name."""
    dense = one.encoder(IMAGES.name).dense(torch.zeros(1, 4, 4), None)
    assert dense is not None
    layers: list[tuple[str, Layer]] = [
        (f"encoders.{IMAGES.name}.layers.0", dense[1][0]),
        ("trunk.linears.0", one.trunk.layers[1]),
        ("heads.task:a", one.head("a").layer),
    ]
    found: dict[str, torch.Tensor] = {}
    for name, layer in layers:
        assert isinstance(layer, Dense)
        found |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return found
