""".parquet through pyarrow: columns of numbers, strings and lists of one length."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.encodings import parquet
from daemon.encodings.parquet import columns
from daemon.errors import BadEvent

arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra: parquet)")
pq: Any = pytest.importorskip("pyarrow.parquet")
MANY = 1 << 20


def written(table: dict[str, Any], **options: Any) -> bytes:
    """A file of these columns."""
    buffer = io.BytesIO()
    pq.write_table(arrow.table(table), buffer, **options)
    return buffer.getvalue()


def refusal(data: bytes, max_bytes: int = MANY) -> str:
    """The reason for which a file is refused."""
    with pytest.raises(BadEvent) as caught:
        columns(data, max_bytes)
    return caught.value.reason


def test_numbers_strings_and_lists_come_back() -> None:
    images = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    table = {
        "x": arrow.array(images, arrow.list_(arrow.list_(arrow.uint8()))),
        "y.a": arrow.array([3, 4]),
        "y.b": arrow.array(["p", "q"]),
        "mask.b": arrow.array([True, False]),
        "weight.a": arrow.array([[0.5], [1.5]], arrow.list_(arrow.float32(), 1)),
    }
    found = columns(written(table), MANY)
    assert isinstance(found["x"], np.ndarray)
    assert found["x"].dtype == np.uint8
    assert found["x"].tolist() == images
    assert list(found["y.a"]) == [3, 4]
    assert found["y.b"] == ["p", "q"]
    assert list(found["mask.b"]) == [True, False]
    assert found["weight.a"].shape == (2, 1)  # pyright: ignore


def test_texts_come_back_in_several_row_groups() -> None:
    texts = ["on", "off", "ö", "on"]
    found = columns(written({"x": texts, "y": [1, 2, 3, 4]}, row_group_size=2), MANY)
    assert list(found["x"]) == texts


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"x": arrow.array([1.0, None])}, "null_value"),
        ({"x": arrow.array([[1, 2], None])}, "null_value"),
        ({"x": arrow.array([[1, None], [2, 3]])}, "null_value"),
        ({"x": arrow.array([[1, 2], [3]])}, "ragged_rows"),
        ({"x": arrow.array([["a"], ["b"]])}, "unknown_dtype"),
        ({"x": arrow.array([b"a", b"b"])}, "unknown_dtype"),
        ({"x": arrow.array([{"a": 1}])}, "unknown_dtype"),
        ({"x": arrow.array([], arrow.list_(arrow.int8()))}, "empty"),
        ({"x": arrow.array([1]), "y": arrow.array(["a" * 300])}, "label_too_long"),
        ({f"c{n}": arrow.array([1]) for n in range(257)}, "too_many_columns"),
    ],
)
def test_what_is_not_rows_of_numbers_or_strings_is_refused(table: Any, reason: str) -> None:
    assert refusal(written(table)) == reason


def test_repeats_that_unpack_to_too_much_are_refused_before_they_do() -> None:
    data = written({"x": arrow.array(np.zeros(1_000_000, np.uint8))})
    assert len(data) < 10_000
    assert refusal(data, 500_000) == "reference_too_large"


def test_bytes_that_are_no_parquet_are_refused() -> None:
    assert refusal(b"PAR1" + bytes(100) + b"PAR1") == "bad_parquet"


def test_without_pyarrow_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "find_spec", lambda _: None)
    with pytest.raises(BadEvent, match=r"pip install 'mtld\[parquet\]'") as caught:
        columns(b"", MANY)
    assert caught.value.reason == "parquet_unavailable"
    assert importlib.util.find_spec("pyarrow") is not None


@pytest.mark.parametrize("value", [0, 3])
def test_a_footer_that_contradicts_itself_is_refused_and_the_process_lives(value: int) -> None:
    """Any byte of it changed: histograms of a wrong size among them, over which pyarrow 26.0.1 ends the process."""
    raw = written({"x": arrow.array([[1, 2], [3, 4]]), "y": arrow.array(["a", "b"])})
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    refused = 0
    for place in range(footer, len(raw)):
        try:
            columns(raw[:place] + bytes([value]) + raw[place + 1 :], MANY)
        except BadEvent:
            refused += 1
    assert refused > (len(raw) - footer) / 4


@settings(max_examples=60, deadline=None, database=None)
@given(st.data())
def test_changed_bytes_are_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(written({"x": arrow.array([[1, 2], [3, 4]]), "y": arrow.array(["a", "b"])}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        columns(bytes(raw), MANY)
    except BadEvent:
        return
