"""The TF-IDF encoder: n-grams and document frequencies against plain counts, weights against the formula."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_engine.encoders.tfidf import TfidfEncoder
from mtl_engine.engine import Engine
from mtl_engine.types import TaskSpec
from tests.support.engines import engine, parts

TEXTS = ["abcd", "", "a", "hello world hello", "Hello", "grüße", "\x00a\x00b"]


def encoder(**more: object) -> TfidfEncoder:
    torch.manual_seed(0)
    return TfidfEncoder((64,), 12, **{"buckets": 1_000_003, **more})  # type: ignore[arg-type]


def packed(texts: list[str], size: int = 64) -> tuple[Tensor, Tensor]:
    raw = [text.encode() for text in texts]
    x = np.zeros((len(raw), size), np.uint8)
    for row, given in zip(x, raw, strict=True):
        row[: len(given)] = np.frombuffer(given, np.uint8)
    return torch.from_numpy(x), torch.tensor([len(given) for given in raw], dtype=torch.int32)


def grams(text: str, orders: tuple[int, ...]) -> Counter[bytes]:
    framed = b" " + text.encode().lower() + b"  "
    return Counter(framed[k : k + n] for n in orders for k in range(len(framed) - n + 1))


@pytest.mark.parametrize("orders", [(1,), (3,), (3, 5), (16, 2)])
def test_each_n_gram_of_the_framed_text_has_a_bucket_of_its_own_and_is_there_as_often_as_in_the_text(
    orders: tuple[int, ...],
) -> None:
    bucket_BN = encoder(orders=orders).decode(*packed(TEXTS))
    for row, text in zip(bucket_BN.tolist(), TEXTS, strict=True):
        found = Counter(bucket for bucket in row if bucket)
        assert sorted(found.values()) == sorted(grams(text, orders).values())


def test_an_n_gram_has_the_same_bucket_wherever_it_stands() -> None:
    one = encoder(orders=(3,))
    near, far = one.decode(*packed(["abc", "x" * 50 + "abc"])).tolist()
    assert set(near) - {0} - set(far) == {near[1]}  # " ab" alone: "abc" and "bc " are in both


def test_a_single_letter_is_a_text() -> None:
    near, far = encoder()(*packed(["a", "b"]))
    assert not torch.allclose(near, far)


def test_buckets_are_used_evenly() -> None:
    words = [f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnopqrstuvwxyz"]
    bucket_BN = encoder(buckets=65, orders=(4,)).decode(*packed(words))
    count_K = np.bincount(bucket_BN[:, 1].numpy(), minlength=65)
    assert count_K[0] == 0
    assert (
        abs(count_K[1:] - len(words) / 64) < 5 * math.sqrt(len(words) / 64)
    ).all()  # as by chance


def test_document_frequencies_are_counted_exactly_once_a_text() -> None:
    one = encoder(orders=(3,))
    x, length = packed(TEXTS)
    for rows in (slice(0, 3), slice(3, 7), slice(0, 7)):
        one.observe(x[rows], length[rows])
    wanted = Counter(gram for text in TEXTS for gram in grams(text, (3,)))
    assert int(one.texts_K[0]) == 2 * len(TEXTS)
    assert sorted(one.texts_K[1:][one.texts_K[1:] > 0].tolist()) == sorted(
        2 * count for count in wanted.values()
    )
    torch.testing.assert_close(one.log_K, one.texts_K.float().log1p(), rtol=0, atol=0)


def test_features_are_those_of_the_formula() -> None:
    one = encoder(orders=(3,), buckets=500)
    x, length = packed(TEXTS)
    one.observe(x, length)
    bucket_BN = one.decode(x, length)
    for row, h_D in zip(bucket_BN, one(x, length), strict=True):
        there = row[row != 0]
        idf = 1 + torch.log((1 + len(TEXTS)) / (1 + one.texts_K[there].double()))
        w = idf / idf.square().sum().sqrt() if len(there) else idf
        plain = (w[:, None] * one.vectors.detach()[there]).sum(0)
        wanted = torch.nn.functional.layer_norm(plain, (12,), eps=1e-5)
        torch.testing.assert_close(h_D.detach().double(), wanted, rtol=1e-4, atol=1e-4)


def test_a_rare_n_gram_weighs_more_than_one_that_every_text_has() -> None:
    one = encoder(orders=(3,))
    x, length = packed(["abc xyz"] + ["abc"] * 50)
    one.observe(x, length)
    bucket_BN = one.decode(x[:1], length[:1])
    [w_N] = one.weights(bucket_BN).tolist()
    assert w_N[2] < w_N[6] / 2  # "abc" and "xyz", after the 0 that is first and " ab"


def test_what_was_decoded_is_encoded_as_the_bytes_are() -> None:
    one = encoder()
    x, length = packed(TEXTS)
    assert torch.equal(one(one.decode(x, length), length), one(x, length))


def words(step: int) -> tuple[list[str], list[str]]:
    draw = np.random.default_rng(step)
    y = [["sea", "sky"][k] for k in draw.integers(0, 2, 8)]
    return [f"the {label} {draw.integers(100)}" for label in y], y


def after(one: Engine, steps: range) -> Engine:
    for step in steps:
        one.observe("t", *words(step))
    return one


def made() -> Engine:
    one = engine("default")
    one.add_task(TaskSpec("t", modality="text", max_bytes=32))
    return one


def test_counts_and_weights_go_on_to_the_bit_after_a_state_was_loaded() -> None:
    one = after(made(), range(7))
    again = made()
    again.load_state_dict(one.state_dict())
    mine, theirs = (parts(after(each, range(7, 15))).model.tensors() for each in (one, again))
    assert any(name.endswith("texts_K") for name in mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_only_rows_of_the_stream_are_counted() -> None:
    one = after(made(), range(9))
    [encoder] = parts(one).model.encoders.values()
    assert isinstance(encoder, TfidfEncoder)
    assert int(encoder.texts_K[0]) == 9 * 8  # replayed rows are not counted again


def test_a_new_text_task_is_encoded_by_it_and_one_of_an_older_state_as_it_was_made() -> None:
    old = Engine(encoder={"text": "text"})
    for one, name in ((Engine(), "tfidf"), (old, "text")):
        one.add_task(TaskSpec("t", modality="text"))
        one.observe("t", ["rain", "sun"], ["bad", "good"])
        [table] = parts(one).registry.tables.values()
        assert table.encoder == {"name": name}
    new = Engine()
    new.load_state_dict(old.state_dict())
    new.observe("t", ["snow"], ["good"])
    old.observe("t", ["snow"], ["good"])
    [table] = parts(new).registry.tables.values()
    assert table.encoder == {"name": "text"}
    assert np.array_equal(new.predict_proba("t", ["rain"]), old.predict_proba("t", ["rain"]))
