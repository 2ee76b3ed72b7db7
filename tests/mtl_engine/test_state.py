"""Files of named tensors: readable by the format's own library, exact, and refused when anything is off."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mtl_engine.errors import StateError
from mtl_engine.state import read_tensors, write_tensors

ARRAYS: dict[str, Any] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flags": np.array([True, False, True]),
    "half": np.array([1.5, np.inf], np.float16),
    "nothing": np.zeros((0, 4), np.int64),
    "one": np.array(3.5),
    "u8": np.arange(5, dtype=np.uint8),
}


def test_what_is_written_is_what_the_formats_own_library_reads(tmp_path: Path) -> None:
    info = write_tensors(tmp_path / "t", ARRAYS)
    assert info.bytes == (tmp_path / "t").stat().st_size
    assert info.sha256 == hashlib.sha256((tmp_path / "t").read_bytes()).hexdigest()
    path = tmp_path / "t"
    for found in (load_file(path), read_tensors(path), read_tensors(path, mapped=True)):
        assert found.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()


def test_what_the_formats_own_library_writes_is_read(tmp_path: Path) -> None:
    save_file({"b": ARRAYS["a"], "a": ARRAYS["u8"]}, tmp_path / "t", metadata={"made": "elsewhere"})
    found = read_tensors(tmp_path / "t")
    assert sorted(found) == ["a", "b"]
    assert np.array_equal(found["b"], ARRAYS["a"])


def test_tensors_and_views_that_are_not_contiguous_are_written_by_value(tmp_path: Path) -> None:
    tensor = torch.arange(12).reshape(3, 4).T
    write_tensors(tmp_path / "t", {"t": tensor, "v": ARRAYS["a"][:, ::2]})
    found = read_tensors(tmp_path / "t")
    assert np.array_equal(found["t"], tensor.numpy())
    assert np.array_equal(found["v"], ARRAYS["a"][:, ::2])


@pytest.mark.parametrize("mapped", [False, True])
def test_every_truncation_is_refused(tmp_path: Path, mapped: bool) -> None:
    write_tensors(tmp_path / "t", ARRAYS)
    whole = (tmp_path / "t").read_bytes()
    for length in [*range(0, len(whole) - 1, 7), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(StateError):
            read_tensors(tmp_path / "cut", mapped=mapped)


def test_what_is_written_to_a_mapped_tensor_stays_in_memory(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", ARRAYS)
    before = (tmp_path / "t").read_bytes()
    found = read_tensors(tmp_path / "t", mapped=True)
    (tmp_path / "t").unlink()  # as retention does while a recovered state is being taken over
    found["u8"][:] = 9
    assert found["a"].tolist() == ARRAYS["a"].tolist()
    write_tensors(tmp_path / "t", ARRAYS)
    assert (tmp_path / "t").read_bytes() == before


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}},
        {"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}},
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "t").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(StateError):
        read_tensors(tmp_path / "t")


def test_a_type_without_a_name_in_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="complex64"):
        write_tensors(tmp_path / "t", {"c": np.zeros(2, np.complex64)})


def test_a_missing_file_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        read_tensors(tmp_path / "absent")
