""".npz without pickle: what numpy writes is read, sizes are checked before memory is taken."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.encodings.columns import MAX_COLUMNS
from daemon.encodings.npz import columns
from daemon.errors import BadEvent
from tests.support.malformed_references import npz

MANY = 1 << 20
DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def refusal(data: bytes) -> str:
    """The reason for which a file is refused."""
    with pytest.raises(BadEvent) as caught:
        columns(data, MANY)
    return caught.value.reason


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of any members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    """One array as numpy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_dtype_and_order_comes_back(dtype: str, order: str) -> None:
    x = np.asarray(np.arange(24).reshape(4, 3, 2).astype(dtype), order=order)  # pyright: ignore
    found = columns(npz({"x": x, "y": x[:, 0, 0].copy()}), MANY)
    np.testing.assert_array_equal(found["x"], x)
    assert isinstance(found["x"], np.ndarray)
    assert found["x"].dtype == x.dtype
    assert found["x"].flags.c_contiguous


def test_strings_come_back_as_labels_and_as_texts() -> None:
    found = columns(npz({"x": np.array(["ein", "zwei"]), "y": np.array(["ö", "b"])}), MANY)
    assert list(found["x"]) == ["ein", "zwei"]
    assert found["y"] == ["ö", "b"]


def test_an_uncompressed_file_is_read() -> None:
    assert list(columns(zipped({"x.npy": npy(np.ones((2, 1)))}), MANY)) == ["x"]


def test_a_header_of_format_two_is_read() -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ones((2, 1)), version=(2, 0))
    assert columns(zipped({"x.npy": buffer.getvalue()}), MANY)["x"].shape == (2, 1)  # pyright: ignore


OBJECTS = npy(np.array([None, {}], dtype=object))
RECORDS = npy(np.zeros(2, [("a", "f4")]))


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (OBJECTS, "pickled_objects"),
        (RECORDS, "bad_npz"),
        (npy(np.zeros(2, ">f4")), "unknown_dtype"),
        (npy(np.zeros(2, "c8")), "unknown_dtype"),
        (npy(np.zeros(2, "M8[s]")), "bad_npz"),
        (npy(np.array(1.0)), "wrong_rank"),
        (npy(np.zeros((0, 3))), "empty"),
        (npy(np.zeros((1,) * 9)), "wrong_rank"),
        (npy(np.ones(2))[:-3], "bad_npz"),
        (npy(np.ones(2)) + b"x", "bad_npz"),
        (npy(np.ones(3, bool)).replace(b"\1\1\1", b"\1\2\1"), "bad_bool"),
        (npy(np.array(["ab"]))[:-4] + b"\0\xd8\0\0", "invalid_utf8"),
        (npy(np.array(["ab"]))[:-4] + b"\xff\xff\xff\xff", "invalid_utf8"),
        (b"\x93NUMPY\1\0\xff\xff" + b"(" * 65_535, "bad_npz"),
        (b"", "bad_npz"),
        (b"\x80\x04N.", "bad_npz"),
    ],
)
def test_members_that_are_not_plain_arrays_are_refused(member: bytes, reason: str) -> None:
    assert refusal(zipped({"x.npy": member})) == reason


def test_a_shape_of_terabytes_takes_no_memory() -> None:
    huge = npy(np.ones((2, 3))).replace(b"(2, 3), }" + b" " * 12, b"(99999999999, 9), }  ")
    tracemalloc.start()
    assert refusal(zipped({"x.npy": huge})) == "bad_npz"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_member_that_unpacks_to_more_than_it_says_takes_no_memory() -> None:
    packed = bytearray(zipped({"x.npy": bytes(64 << 20)}, zipfile.ZIP_DEFLATED))
    directory = packed.index(b"PK\1\2")
    packed[directory + 24 : directory + 28] = (4000).to_bytes(4, "little")  # the declared size
    tracemalloc.start()
    assert refusal(bytes(packed)) == "bad_npz"
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_whose_output_has_no_bound_are_refused(compression: int) -> None:
    assert refusal(zipped({"x.npy": npy(np.ones((2, 1)))}, compression)) == "bad_npz"


def test_other_members_are_refused() -> None:
    assert refusal(zipped({"x.npy": npy(np.ones((2, 1))), "x.pkl": b"\x80\x04N."})) == "bad_npz"


def test_one_name_twice_is_refused() -> None:
    data = zipped({"x.npy": npy(np.ones((2, 1))), "y.npy": npy(np.ones((2, 1)))})
    assert refusal(data.replace(b"y.npy", b"x.npy")) == "duplicate_key"


def test_a_directory_of_too_many_members_is_refused() -> None:
    assert refusal(zipped({f"{n}.npy": b"" for n in range(MAX_COLUMNS + 1)})) == "too_many_columns"


@settings(max_examples=150, deadline=None, database=None)
@given(st.data())
def test_changed_bytes_are_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(npz({"x": np.ones((2, 3)), "y": np.array(["a", "b"])}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(len(raw) - 40, len(raw))) :]
    try:
        columns(bytes(raw), MANY)
    except BadEvent:
        return
