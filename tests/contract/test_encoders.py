"""Every encoder: features of the trunk's width, each row on its own, padding ignored, sizes bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_engine import inputs
from mtl_engine.encoders import ENCODERS, MODALITY
from mtl_engine.encoders.base import Encoder
from mtl_engine.errors import EngineError
from mtl_engine.inputs import InputTable
from mtl_engine.model import Model, TrunkSpec, make_encoder
from mtl_engine.types import Json, TaskSpec
from tests.support.engines import engine

WIDTH = 12
DRAW = np.random.default_rng(8)
WORDS = [
    "rain",
    "",
    "Überraschung im Ünterricht",
    "a",
    "日本語のテキスト",
    "rain and sun " * 4,
    "RAIN",
]

ROWS: dict[str, list[tuple[str, Any, Json]]] = {
    "image": [
        ("bytes", DRAW.integers(0, 256, (6, 9, 8)).astype(np.uint8), {}),
        ("colours last", DRAW.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8), {}),
        ("colours first", DRAW.standard_normal((6, 3, 8, 8)).astype(np.float32), {}),
        ("halves", DRAW.standard_normal((6, 8, 8)).astype(np.float16), {}),
    ],
    "text": [("words", WORDS, {}), ("few buckets", WORDS, {"buckets": 7, "orders": [1]})],
    "embedding": [("vectors", DRAW.standard_normal((6, 5)).astype(np.float32), {})],
    "table": [
        ("numbers", DRAW.normal(50, 9, (6, 5)).astype(np.float32), {}),
        ("gaps", [[1.0, None, 3], [None, None, None], [2, 5.5, -1], [1e9, 0, 0]], {}),
        ("words", [["red", 1, "x"], ["blue", 2, None], [None, 3, 7]], {"categorical": [0, 2]}),
    ],
}
CASES = [
    pytest.param(name, rows, arguments, id=f"{name}-{what}")
    for name in ENCODERS
    for what, rows, arguments in ROWS[MODALITY[name]]
]
every_encoder = pytest.mark.parametrize(("name", "rows", "arguments"), CASES)


def made(name: str, rows: Any, arguments: Json, seed: int = 0) -> tuple[Encoder, Tensor, Any]:
    """An encoder, and rows as they reach it from the stream."""
    spec = TaskSpec("a", modality=MODALITY[name], encoder={"name": name, **arguments})
    encoder = {"name": name, **arguments}
    x, length_B = inputs.check(spec, encoder, None, rows)
    torch.manual_seed(seed)
    module = make_encoder(inputs.table_of(spec, encoder, x), WIDTH)
    return module, torch.from_numpy(x), None if length_B is None else torch.from_numpy(length_B)


@every_encoder
def test_features_have_the_trunks_width_in_float32(name: str, rows: Any, arguments: Json) -> None:
    module, x, length_B = made(name, rows, arguments)
    module.observe(x)
    h_BD = module(x, length_B)
    assert h_BD.shape == (len(rows), WIDTH)
    assert h_BD.dtype == torch.float32
    assert bool(torch.isfinite(h_BD).all())
    assert len({tuple(row) for row in h_BD.round(decimals=5).tolist()}) > 1


@every_encoder
def test_a_row_alone_is_the_row_among_others(name: str, rows: Any, arguments: Json) -> None:
    module, x, length_B = made(name, rows, arguments)
    module.observe(x)
    with torch.no_grad():
        whole = module(x, length_B)
        for k in range(len(x)):
            alone = module(x[k : k + 1], None if length_B is None else length_B[k : k + 1])
            torch.testing.assert_close(alone, whole[k : k + 1], rtol=1e-6, atol=1e-6)


@every_encoder
def test_every_parameter_is_trained(name: str, rows: Any, arguments: Json) -> None:
    module, x, length_B = made(name, rows, arguments)
    module.observe(x)
    module(x, length_B).square().sum().backward()
    for parameter, value in module.named_parameters():
        assert value.grad is not None, parameter
        assert bool(value.grad.any()), parameter
        assert bool(torch.isfinite(value.grad).all()), parameter


@every_encoder
def test_the_state_comes_back_in_an_encoder_made_anew(
    name: str, rows: Any, arguments: Json
) -> None:
    module, x, length_B = made(name, rows, arguments)
    module.observe(x)
    module.observe(x[:2])
    fresh, _, _ = made(name, rows, arguments, seed=99)
    fresh.load_state_dict({key: value.clone() for key, value in module.state_dict().items()})
    assert torch.equal(fresh(x, length_B), module(x, length_B))
    fresh.observe(x[1:])
    module.observe(x[1:])
    assert torch.equal(fresh(x, length_B), module(x, length_B))


@every_encoder
def test_encoding_observes_nothing(name: str, rows: Any, arguments: Json) -> None:
    module, x, length_B = made(name, rows, arguments)
    module.observe(x)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module(x, length_B)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@every_encoder
def test_initial_values_follow_from_the_seed_alone(name: str, rows: Any, arguments: Json) -> None:
    spec = TaskSpec("a", modality=MODALITY[name], encoder={"name": name, **arguments})
    x, _ = inputs.check(spec, {"name": name, **arguments}, None, rows)
    table = inputs.table_of(spec, {"name": name, **arguments}, x)
    models = [Model(TrunkSpec(WIDTH, 1), seed, torch.device("cpu")) for seed in (4, 4, 5)]
    for noise, model in enumerate(models):
        torch.manual_seed(noise)
        model.add_encoder(table)
    one, same, other = (torch.cat([p.reshape(-1) for p in m.encoders.parameters()]) for m in models)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


TEXT = [name for name, modality in MODALITY.items() if modality == "text"]
TABLE = [name for name, modality in MODALITY.items() if modality == "table"]


@pytest.mark.parametrize("name", TEXT)
def test_what_stands_beyond_a_texts_end_is_ignored(name: str) -> None:
    module, x, length_B = made(name, WORDS, {})
    noise = torch.randint(1, 255, x.shape, generator=torch.Generator().manual_seed(1)).byte()
    beyond = torch.arange(x.shape[1]) >= length_B[:, None]
    assert torch.equal(module(torch.where(beyond, noise, x), length_B), module(x, length_B))
    wide = torch.nn.functional.pad(x, (0, 100))
    assert torch.equal(module(wide, length_B), module(x, length_B))
    torch.testing.assert_close(module(x[:1], length_B[:1]), module(x, length_B)[:1])


@pytest.mark.parametrize("name", TEXT)
def test_texts_longer_than_max_bytes_are_cut_and_case_does_not_matter(name: str) -> None:
    spec = TaskSpec("a", modality="text", max_bytes=8)
    x, length_B = inputs.check(spec, {"name": name}, None, ["abcdefghij", "abcdefgh", "ABCDEFGH"])
    module = make_encoder(inputs.table_of(spec, {"name": name}, x), WIDTH)
    assert length_B is not None
    assert length_B.tolist() == [8, 8, 8]
    h_BD = module(torch.from_numpy(x), torch.from_numpy(length_B))
    assert torch.equal(h_BD[0], h_BD[1])
    assert torch.equal(h_BD[0], h_BD[2])


@pytest.mark.parametrize("name", TABLE)
def test_a_missing_number_is_not_the_mean_and_a_constant_column_is_no_infinity(name: str) -> None:
    rows = [[1.0, 7.0], [3.0, 7.0], [2.0, 7.0], [None, 7.0]]
    module, x, _ = made(name, rows, {})
    module.observe(x)
    h_BD = module(x, None)
    assert bool(torch.isfinite(h_BD).all())
    assert not torch.allclose(h_BD[2], h_BD[3])  # 2 is the mean of the column


@pytest.mark.parametrize("name", TABLE)
def test_numbers_count_in_units_of_the_stream(name: str) -> None:
    rows = np.random.default_rng(2).standard_normal((50, 3)).astype(np.float32)
    module, x, _ = made(name, rows, {})
    scaled, y, _ = made(name, rows * 1000 + 70_000, {})
    module.observe(x)
    scaled.observe(y)
    torch.testing.assert_close(module(x, None), scaled(y, None), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", TABLE)
def test_a_category_is_its_words_whatever_its_row_and_unknown_ones_have_room(name: str) -> None:
    arguments = {"categorical": [0], "buckets": 50}
    module, x, _ = made(name, [["red", 1], ["blue", 1], ["red", 1], [3, 1], [3.0, 1]], arguments)
    h_BD = module(x, None)
    assert x[0, 0] == x[2, 0]
    assert x[3, 0] == x[4, 0]
    torch.testing.assert_close(h_BD[0], h_BD[2])
    assert not torch.allclose(h_BD[0], h_BD[1])
    many, x, _ = made(name, [[f"word {k}", 1] for k in range(400)], arguments)
    assert bool(((x[:, 0] >= 0) & (x[:, 0] < 50)).all())
    assert x[:, 0].unique().numel() > 40
    assert bool(torch.isfinite(many(x, None)).all())


HUGE: list[tuple[str, Json, str]] = [
    ("mlp", {"hidden": [10**6]}, "hidden"),
    ("mlp", {"hidden": [12_000, 12_000, 12_000]}, "layers"),
    ("mlp", {"hidden": [8] * 1000}, "hidden"),
    ("mlp", {"hidden": 8}, "hidden"),
    ("mlp", {"hidden": [8.5]}, "hidden"),
    ("mlp", {"hiden": [8]}, "hidden"),
    ("cnn", {"channels": [4096] * 3}, "convolutions"),
    ("cnn", {"channels": [16] * 50}, "channels"),
    ("cnn", {"groups": 0}, "groups"),
    ("table", {"hidden": [16_384] * 2}, "layers"),
    ("table", {"categorical": [0], "buckets": 10**6, "dim": 1024}, "vectors"),
    ("table", {"categorical": [0], "buckets": 0}, "buckets"),
    ("table", {"categorical": [10**12]}, "categorical"),
    ("table", {"categorical": 3}, "categorical"),
    ("table", {"dim": -1}, "dim"),
    ("embedding", {"hidden": [16_384] * 3}, "layers"),
    ("text", {"buckets": 4_000_000, "dim": 4096}, "vectors"),
    ("text", {"buckets": 10**9}, "buckets"),
    ("text", {"orders": list(range(1, 17)) * 9}, "orders"),
    ("text", {"dim": "64"}, "dim"),
    ("tfidf", {"buckets": 10**9}, "buckets"),
    ("tfidf", {"orders": [17]}, "orders"),
]


@pytest.mark.parametrize(("name", "arguments", "named"), HUGE)
def test_sizes_that_come_over_the_log_are_bounded_when_the_task_is_added(
    name: str, arguments: Json, named: str
) -> None:
    one = engine()
    spec = TaskSpec("a", modality=MODALITY[name], encoder={"name": name, **arguments})
    with pytest.raises(EngineError, match=named) as caught:
        one.add_task(spec)
    assert "allowed" in str(caught.value)
    assert not one.tasks


def test_sizes_that_only_the_rows_tell_are_bounded_too() -> None:
    image = InputTable("", "image", (3, 4000, 4000), "uint8", 1.0, {"name": "mlp"})
    with pytest.raises(EngineError, match="layers of widths 48000000, 256"):
        make_encoder(image, 256)
    with pytest.raises(EngineError, match="16 channels of one image"):
        make_encoder(InputTable("", "image", (3, 4000, 4000), "uint8", 1.0, {"name": "cnn"}), 256)


@pytest.mark.parametrize("encoder", [5, ["mlp"], {"hidden": [3]}, "text", "os:system", {"name": 3}])
def test_a_task_may_only_name_a_known_encoder_of_its_modality(encoder: Any) -> None:
    one = engine()
    with pytest.raises(EngineError, match="encoder of task a"):
        one.add_task(TaskSpec("a", modality="image", encoder=encoder))
    assert not one.tasks
