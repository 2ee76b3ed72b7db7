"""What the producer encodes is what the daemon decodes, from every kind of input."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from daemon.encode import JSON, TENSORS, encode
from daemon.encodings import decode
from daemon.types import Limits, Payload


def sent(subject: str | None, **columns: Any) -> tuple[str, Payload]:
    """The content type, and what the daemon gets."""
    content_type, data, num_rows = encode(
        {name.replace("__", "."): value for name, value in columns.items()}
    )
    payload = decode(content_type, data, subject, Limits())
    assert len(payload.x) == num_rows
    return content_type, payload


def test_arrays_keep_dtype_and_shape() -> None:
    x, y = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([3, 1])
    content_type, payload = sent("t", x=x, y=y, mask=np.array([True, False]), weight=[1.0, 0.5])
    assert content_type == TENSORS
    np.testing.assert_array_equal(payload.x, x)
    labels = payload.labels["t"]
    np.testing.assert_array_equal(labels.y, y)
    np.testing.assert_array_equal(labels.mask, [True, False])  # pyright: ignore[reportArgumentType]
    assert isinstance(payload.x, np.ndarray)
    assert payload.x.dtype == np.uint8


def test_float64_is_sent_as_float32() -> None:
    _, payload = sent("t", x=np.ones((2, 2)), y=[0.5, 1.5])
    assert isinstance(payload.x, np.ndarray)
    assert payload.x.dtype == np.float32


def test_big_endian_and_strided_arrays_are_sent_right() -> None:
    x = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    _, payload = sent("t", x=x)
    np.testing.assert_array_equal(payload.x, [[0, 2], [4, 6], [8, 10]])


def test_text_is_sent_as_json_with_any_labels() -> None:
    content_type, payload = sent("t", x=["größer", "line\nbreak"], y=["yes", "no"])
    assert content_type == JSON
    assert list(payload.x) == ["größer", "line\nbreak"]
    assert list(payload.labels["t"].y) == ["yes", "no"]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_inputs_with_string_labels_keep_their_dtype(dtype: Any) -> None:
    x = np.arange(6).reshape(2, 3).astype(dtype)
    content_type, payload = sent("t", x=x, y=np.array(["a", "b"]))
    assert content_type == JSON
    assert isinstance(payload.x, np.ndarray)
    assert payload.x.dtype == dtype
    np.testing.assert_array_equal(payload.x, x)


def test_a_missing_number_beside_string_labels_stays_missing() -> None:
    _, payload = sent("t", x=np.array([[1.0, np.nan]]), y=["a"])
    np.testing.assert_array_equal(payload.x, np.array([[1.0, np.nan]], np.float32))


def test_rows_of_several_tasks_travel_in_one_event() -> None:
    _, payload = sent(None, x=[[1.0], [2.0]], y__a=[0, 1], y__b=["u", "v"], mask__b=[1, 0])
    assert payload.labels.keys() == {"a", "b"}
    np.testing.assert_array_equal(payload.labels["a"].y, [0, 1])
    assert list(payload.labels["b"].y) == ["u", "v"]


def test_torch_tensors_are_taken_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones(2, 3, requires_grad=True)
    _, payload = sent("t", x=x, y=torch.tensor([1, 0]))
    np.testing.assert_array_equal(payload.x, np.ones((2, 3)))
    _, payload = sent("t", x=[torch.ones(3), torch.zeros(3)], y=[1, 0])
    np.testing.assert_array_equal(payload.x, [[1, 1, 1], [0, 0, 0]])
    _, payload = sent("t", x=torch.ones(1, 2, dtype=torch.bfloat16))
    np.testing.assert_array_equal(payload.x, [[1, 1]])


class _Frame:
    """As much of pandas as the producer uses; pandas itself is not among our dependencies."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def to_numpy(self) -> np.ndarray:
        return self._values


def test_pandas_frames_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("pandas")
    vars(module).update(DataFrame=_Frame, Series=_Frame, Index=_Frame)
    monkeypatch.setitem(sys.modules, "pandas", module)
    frame, series = _Frame(np.ones((2, 2))), _Frame(np.array(["a", "b"], dtype=object))
    content_type, payload = sent("t", x=frame, y=series)
    assert content_type == JSON
    assert list(payload.labels["t"].y) == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"y": [1]}, "x is needed"),
        ({"x": []}, "at least one row"),
        ({"x": [1.0, 2.0], "y": [1]}, "as long as x"),
        ({"x": [[1.0], [1.0, 2.0]]}, "different shapes"),
        ({"x": np.float32(1.0)}, "float32"),
        ({"x": np.array(["2026-01-01"], dtype="datetime64[D]")}, "datetime64"),
        ({"x": {1, 2}}, "set"),
    ],
)
def test_what_cannot_be_rows_is_refused_where_it_is_pushed(
    columns: dict[str, Any], says: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        encode(columns)


def test_a_producer_needs_neither_torch_nor_pandas() -> None:
    program = (
        "import sys, numpy, daemon.producer, daemon.encode as e;"
        "e.encode({'x': numpy.ones((2, 2)), 'y': ['a', 'b']}); e.encode({'x': numpy.ones((2, 2))});"
        "sys.exit(bool({'torch', 'pandas', 'mtl_engine'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
