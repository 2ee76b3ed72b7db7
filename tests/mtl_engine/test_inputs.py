"""Inputs by modality: what is accepted, in which form it is kept, and the reason when it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtl_engine.errors import BadRows
from mtl_engine.registry import Registry
from mtl_engine.types import Rows, TaskSpec

IMAGES = np.zeros((2, 4, 4), np.uint8)


def registry(modality: str, **more: Any) -> Registry:
    found = Registry(None, 16)
    found.add(TaskSpec("t", modality=modality, **more))
    return found


def prepared(modality: str, *xs: Any, **more: Any) -> Rows:
    """The rows of the last of some events of one task."""
    found = registry(modality, **more)
    return [found.prepare("t", x, None, None, None) for x in xs][-1]


def reason(modality: str, *xs: Any, **more: Any) -> str:
    found = registry(modality, **more)
    for x in xs[:-1]:
        found.prepare("t", x, None, None, None)
    before = found.state()[0]
    with pytest.raises(BadRows) as refused:
        found.prepare("t", xs[-1], None, None, None)
    assert found.state()[0] == before
    return refused.value.reason


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (IMAGES, np.uint8),
        (IMAGES.tolist(), np.uint8),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), np.uint8),
        (IMAGES.astype(np.float16), np.float16),
        (IMAGES.astype(np.float64), np.float32),
        ((IMAGES + 0.5).tolist(), np.float32),
        (torch.zeros(2, 4, 4, dtype=torch.bfloat16), np.float32),
    ],
)
def test_images_are_kept_as_bytes_or_floats(x: Any, dtype: Any) -> None:
    rows = prepared("image", x)
    assert rows.x.dtype == dtype
    assert rows.x.shape == (2, 4, 4)
    assert rows.x.flags.writeable


def test_rows_of_one_shape_dtype_and_encoder_share_a_table_whatever_their_task() -> None:
    found = registry("image")
    found.add(TaskSpec("other"))
    found.add(TaskSpec("deep", encoder="cnn"))
    names = [found.prepare(task, IMAGES, None, None, None).table for task in ("t", "other", "deep")]
    assert names == ["image-4x4-uint8-mlp", "image-4x4-uint8-mlp", "image-4x4-uint8-cnn"]


@pytest.mark.parametrize(
    ("xs", "wanted"),
    [
        ([IMAGES.astype(np.int64)], "wrong_dtype"),
        ([IMAGES, IMAGES.astype(np.float32)], "wrong_dtype"),
        ([IMAGES[0]], "wrong_rank"),
        ([IMAGES, IMAGES[0]], "wrong_rank"),
        ([IMAGES, np.zeros((2, 4, 5), np.uint8)], "wrong_shape"),
        ([IMAGES[:0]], "empty"),
        ([None], "empty"),
        ([[[[1, 2]], [[1]]]], "wrong_shape"),
        ([[[["a"]]]], "wrong_dtype"),
        ([np.full((1, 2, 2), np.nan, np.float32)], "nan_input"),
        ([np.full((1, 2, 2), np.inf, np.float32)], "infinite_input"),
        ([np.full((1, 2, 2), 1e300)], "infinite_input"),
    ],
)
def test_images_that_do_not_fit_are_refused_and_change_nothing(xs: list[Any], wanted: str) -> None:
    assert reason("image", *xs) == wanted


def test_a_declared_shape_holds_from_the_first_event() -> None:
    assert reason("image", np.zeros((2, 5, 5), np.uint8), input_shape=(4, 4)) == "wrong_shape"


def test_missing_numbers_of_a_table_are_kept_as_nan() -> None:
    for x in ([[1, None], [2.5, 3]], np.array([[1, np.nan], [2.5, 3]])):
        rows = prepared("table", x)
        assert rows.x.dtype == np.float32
        assert np.array_equal(rows.x, np.array([[1, np.nan], [2.5, 3]], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("xs", "wanted"),
    [
        ([[[1, "a"]]], "wrong_dtype"),
        ([[[1, float("inf")]]], "infinite_input"),
        ([[[1, 2]], [[1, 2, 3]]], "wrong_shape"),
        ([[1, 2]], "wrong_rank"),
        ([[[1, {}]]], "wrong_dtype"),
    ],
)
def test_tables_that_do_not_fit_are_refused_and_change_nothing(xs: list[Any], wanted: str) -> None:
    assert reason("table", *xs) == wanted


def test_a_category_is_the_same_bucket_however_it_is_written() -> None:
    encoder = {"name": "table", "categorical": [1], "buckets": 50}
    x = [[1, 3], [1, 3.0], [1, "3"], [1, None], [1, "x"]]
    rows = prepared("table", x, encoder=encoder)
    bucket = rows.x[:, 1]
    assert bucket[0] == bucket[1] == bucket[2]
    assert np.isnan(bucket[3])
    assert bucket[4] != bucket[0]
    assert bool(((bucket[[0, 4]] >= 0) & (bucket[[0, 4]] < 50)).all())


def test_a_text_is_kept_as_padded_bytes_and_its_length() -> None:
    rows = prepared("text", ["abc", "", "é" * 9], max_bytes=8)
    assert rows.x.shape == (3, 8)
    assert rows.length is not None
    assert rows.length.tolist() == [3, 0, 8]
    assert bytes(rows.x[0]) == b"abc" + bytes(5)
    assert bytes(rows.x[2]) == "é".encode() * 4


def test_padded_bytes_are_the_same_text() -> None:
    listed = prepared("text", ["abc", "de"], max_bytes=8)
    padded = np.zeros((2, 5), np.uint8)
    padded[0, :3], padded[1, :2] = list(b"abc"), list(b"de")
    given = prepared("text", padded, max_bytes=8)
    assert np.array_equal(given.x, listed.x)
    assert given.length is not None
    assert given.length.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        ([1, 2], "wrong_dtype"),
        (["a", None], "wrong_dtype"),
        ([], "empty"),
        (["\ud800"], "wrong_dtype"),
        ([["a"]], "wrong_rank"),
        (np.zeros((2, 99), np.uint8), "wrong_shape"),
    ],
)
def test_texts_that_do_not_fit_are_refused(x: Any, wanted: str) -> None:
    assert reason("text", x, max_bytes=16) == wanted


@pytest.mark.parametrize("wanted_reason", [("nan_input", np.nan), ("infinite_input", -np.inf)])
def test_embeddings_must_be_finite(wanted_reason: tuple[str, float]) -> None:
    wanted, value = wanted_reason
    assert reason("embedding", np.full((2, 3), value, np.float32)) == wanted
    assert reason("embedding", np.zeros((2, 3), np.int32)) == "wrong_dtype"


def test_a_task_may_name_only_known_encoders_because_its_events_come_from_anywhere() -> None:
    from mtl_engine.errors import EngineError

    for encoder in ("os:system", {"name": "mtl_engine.encoders.text:TextEncoder"}, "text"):
        with pytest.raises(EngineError, match="unknown encoder"):
            Registry(None, 16).add(TaskSpec("t", encoder=encoder))
