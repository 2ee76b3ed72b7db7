"""Safetensors in: what the reference library writes is read back without a copy, all else is refused."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from daemon.encodings.safetensors import MAX_HEADER_BYTES, columns, decode
from daemon.errors import BadEvent
from daemon.types import Limits
from tests.support.raw import headed, spec

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
MANY = 1 << 20


def refusal(data: bytes) -> str:
    """The reason for which these bytes are refused."""
    with pytest.raises(BadEvent) as caught:
        columns(data, MANY)
    return caught.value.reason


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_as_the_library_wrote_it(dtype: str) -> None:
    x = np.arange(24).reshape(4, 3, 2).astype(dtype)
    found = columns(save({"x": x, "y": x[:, 0, 0].copy()}), MANY)
    np.testing.assert_array_equal(found["x"], x)
    assert found["x"].dtype == x.dtype


def test_tensors_are_views_of_the_event_and_cannot_be_written() -> None:
    data = save({"x": np.zeros((64, 784), np.float32), "y": np.zeros(64, np.int64)})
    tracemalloc.start()
    found = columns(data, MANY)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < len(data) // 4
    assert not found["x"].flags.writeable


def test_a_tensor_at_an_odd_address_is_copied_to_an_even_one() -> None:
    header = {"x": spec("U8", [3, 1], 0, 3), "y": spec("I64", [3], 3, 27)}
    found = columns(headed(header, b"abc" + np.array([5, 6, 7], "<i8").tobytes()), MANY)
    assert found["y"].flags.aligned
    assert found["y"].tolist() == [5, 6, 7]


def test_metadata_is_allowed_and_means_nothing() -> None:
    data = save({"x": np.ones((2, 1))}, metadata={"made_by": "a tool"})
    assert list(columns(data, MANY)) == ["x"]


def test_a_padded_header_is_read() -> None:
    raw = json.dumps({"x": spec("U8", [2, 1], 0, 2)}).encode()
    assert columns(headed(raw + b" " * 13, b"ab"), MANY)["x"].tolist() == [[97], [98]]


def test_the_decoded_payload_knows_its_task() -> None:
    data = save({"x": np.ones((2, 4), np.float32), "y": np.array([0, 1])})
    found = decode(data, "digits", Limits())
    assert list(found.labels) == ["digits"]
    assert len(found.x) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\2\0\0\0\0\0\0\0{", "truncated"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little"), "header_too_large"),
        (headed(b""), "bad_header"),
        (headed(b"{" * 2000), "too_many_columns"),
        (headed(b'{"x": NaN}'), "bad_header"),
        (headed(b'{"x": 1}\xff'), "bad_header"),
        (headed({"x": []}), "bad_header"),
        (headed({"x": {"dtype": "U8", "shape": [1]}}, b"a"), "bad_header"),
        (headed({"x": {**spec("U8", [1], 0, 1), "more": 1}}, b"a"), "bad_header"),
        (headed({"x": spec("U8", [1.0], 0, 1)}, b"a"), "bad_header"),
        (headed({"x": spec("U8", [True], 0, 1)}, b"a"), "bad_header"),
        (headed({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"a"), "bad_offsets"),
        (
            headed({"x": {"dtype": ["U8"], "shape": [1], "data_offsets": [0, 1]}}, b"a"),
            "unknown_dtype",
        ),
        (headed({"x": spec("BF16", [1], 0, 2)}, b"ab"), "unknown_dtype"),
        (headed({"x": spec("U8", [1] * 9, 0, 1)}, b"a"), "wrong_rank"),
        (headed({"x": spec("U8", [0, 2**80], 0, 0)}), "empty"),
        (headed({"x": spec("U8", [2], 1, 3)}, b"abc"), "bad_offsets"),
        (headed({}, b"abc"), "bad_offsets"),
        (bytes(MANY + 1), "oversized"),
    ],
)
def test_wrong_bytes_are_refused_by_their_reason(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


@settings(max_examples=100, deadline=None, database=None)
@given(st.data())
def test_what_is_accepted_is_what_the_library_reads(data: st.DataObject) -> None:
    """Differential: bytes that pass the strict reader mean the same to the reference library."""
    raw = bytearray(
        save({"x": np.arange(6, dtype=np.int16).reshape(2, 3), "y": np.array([0.5, 1.5])})
    )
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = columns(bytes(raw), MANY)
    except BadEvent:
        return
    expected = load(bytes(raw))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
