"""The text encoder: n-grams against a plain count, and that nothing but the text itself decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_engine.encoders.text import TextEncoder


def encoder(**more: object) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder((64,), 12, **more)  # type: ignore[arg-type]


def packed(texts: list[str], size: int = 64) -> tuple[Tensor, Tensor]:
    raw = [text.encode() for text in texts]
    x = np.array(raw, f"S{size}").view(np.uint8).reshape(len(raw), size)
    return torch.from_numpy(x.copy()), torch.tensor([len(r) for r in raw], dtype=torch.int32)


@pytest.mark.parametrize("orders", [(1,), (3,), (2, 3, 4), (5, 2)])
def test_each_n_gram_of_the_padded_text_is_counted_once(orders: tuple[int, ...]) -> None:
    texts = ["abcd", "", "a", "hello world"]
    x, length = packed(texts)
    bucket = encoder(orders=orders).ngrams(x, length)
    for row, text in enumerate(texts):
        framed = len(text) + 2
        wanted = sum(max(framed - n + 1, 0) for n in orders)
        assert int((bucket[row] != 0).sum()) == wanted


def test_equal_n_grams_share_a_bucket_and_different_ones_hardly_ever() -> None:
    x, length = packed(["abab", "xyxy", "baba"])
    one = encoder(orders=(2,), buckets=100_003).ngrams(x, length)
    first = one[0][one[0] != 0].tolist()  # " a" "ab" "ba" "ab" "b "
    assert first[1] == first[3]
    assert len(set(first)) == 4
    third = one[2][one[2] != 0].tolist()  # " b" "ba" "ab" "ba" "a "
    assert set(first) & set(third) == {first[1], first[2]}
    assert not set(first) & set(one[1][one[1] != 0].tolist())


def test_a_text_is_encoded_the_same_whatever_stands_beside_it() -> None:
    model = encoder()
    alone = model(*packed(["short"]))
    beside = model(*packed(["short", "a much longer text that sets the width of the batch"]))
    torch.testing.assert_close(alone[0], beside[0])


def test_bytes_behind_the_length_are_not_read() -> None:
    x, length = packed(["abc"])
    dirty = x.clone()
    dirty[0, 3:] = 77
    model = encoder()
    assert torch.equal(model(x, length), model(dirty, length))


def test_ascii_case_makes_no_difference_and_other_letters_keep_theirs() -> None:
    model = encoder()
    assert torch.equal(model(*packed(["HeLLo"])), model(*packed(["hello"])))
    assert not torch.equal(model(*packed(["Éa"])), model(*packed(["éa"])))


def test_its_gradient_is_the_same_every_time_with_two_threads() -> None:
    texts = ["the quick brown fox " * 3, "jumps over", "the lazy dog " * 4] * 20
    grads: list[Tensor] = []
    for _ in range(3):
        model = encoder()
        model(*packed(texts)).square().sum().backward()
        assert model.vectors.weight.grad is not None
        grads.append(model.vectors.weight.grad)
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])
