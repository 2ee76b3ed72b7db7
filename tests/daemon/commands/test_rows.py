"""Rows out of files: every format gives the same parts, in file order, and says where a file is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from daemon.commands.rows import read
from daemon.commands.rows.part import Part
from daemon.errors import ConfigError, DaemonError


def parts(path: Path, num_rows: int = 2, label: str | None = None) -> list[Part]:
    return list(read(path, num_rows, label))


def text(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_text(content)
    return path


def test_a_jsonl_line_is_a_row(tmp_path: Path) -> None:
    lines = [{"x": [n, n + 0.5], "y": n} for n in range(5)]
    path = text(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert [(part.x, part.y) for part in parts(path)] == [
        ([[0, 0.5], [1, 1.5]], [0, 1]),
        ([[2, 2.5], [3, 3.5]], [2, 3]),
        ([[4, 4.5]], [4]),
    ]


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        ([[1, 2]], np.float32),
        ([[[0, 255], [3, 4]]], np.uint8),
        ([[[0, 256], [3, 4]]], np.float32),
        ([[[-1, 1], [3, 4]]], np.float32),
    ],
)
def test_whole_numbers_become_what_the_engine_keeps(
    tmp_path: Path, rows: list[Any], dtype: type
) -> None:
    (part,) = parts(text(tmp_path, "a.jsonl", json.dumps({"x": rows[0]})))
    assert (part.x.dtype, part.x.tolist()) == (dtype, rows)


def test_a_gap_stays_a_gap(tmp_path: Path) -> None:
    (part,) = parts(text(tmp_path, "a.jsonl", '{"x": [1.5, null]}\n'))
    assert part.x == [[1.5, None]]


def test_text_and_label_are_other_names_for_x_and_y(tmp_path: Path) -> None:
    path = text(tmp_path, "a.jsonl", '{"text": "hi", "label": "greet"}\n')
    assert parts(path) == [Part(["hi"], ["greet"])]


def test_labelled_and_unlabelled_neighbours_do_not_share_an_event(tmp_path: Path) -> None:
    path = text(
        tmp_path, "a.jsonl", '{"x": [1], "y": 0}\n{"x": [2]}\n{"x": [3]}\n{"x": [4], "y": 1}\n'
    )
    found = [(part.x.tolist(), part.y) for part in parts(path, 9)]
    assert found == [
        ([[1]], [0]),
        ([[2], [3]], None),
        ([[4]], [1]),
    ]


def test_rows_that_serve_several_tasks_are_gathered_by_task(tmp_path: Path) -> None:
    lines = [
        '{"x": [1], "y": {"a": 0, "b": 1}}',
        '{"x": [2], "y": {"a": 2, "b": 3}}',
        '{"x": [3], "y": {"a": 4}}',
    ]
    found = parts(text(tmp_path, "a.jsonl", "\n".join(lines)), 9)
    assert [part.y for part in found] == [{"a": [0, 2], "b": [1, 3]}, {"a": [4]}]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"y": 1}', "allowed are x or text"),
        ('{"x": [1], "z": 1}', "allowed are x or text"),
        ('{"x": [1], "text": "a"}', "allowed are x or text"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = text(tmp_path, "a.jsonl", f'{{"x": [1]}}\n{line}\n')
    with pytest.raises(DaemonError, match=says) as caught:
        parts(path)
    assert str(caught.value).startswith(f"{path}:2:")


def test_the_columns_of_a_csv_are_the_inputs_and_one_may_be_the_label(tmp_path: Path) -> None:
    path = text(tmp_path, "a.csv", "a,b,kind\n1,2.5,7\n3,4,8\n5,6,9\n")
    assert parts(path, label="kind") == [
        Part([[1.0, 2.5], [3.0, 4.0]], [7, 8]),
        Part([[5.0, 6.0]], [9]),
    ]
    assert parts(path, 9)[0] == Part([[1.0, 2.5, 7.0], [3.0, 4.0, 8.0], [5.0, 6.0, 9.0]])


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (("1", "2", "3"), [1, 2, 3]),
        (("1", "2", "3.5"), [1.0, 2.0, 3.5]),
        (("1", "2", "x"), ["1", "2", "x"]),
    ],
)
def test_the_type_of_labels_fits_the_whole_column_not_its_first_row(
    tmp_path: Path, values: tuple[str, ...], labels: list[Any]
) -> None:
    path = text(tmp_path, "a.csv", "a,y\n" + "".join(f"0,{value}\n" for value in values))
    found = [label for part in parts(path, 1, "y") for label in part.y]
    assert found == labels
    assert {type(label) for label in found} == {type(labels[0])}


def test_an_empty_field_is_a_missing_number(tmp_path: Path) -> None:
    (part,) = parts(text(tmp_path, "a.csv", "a,b\n1,\n2,3\n"))
    assert math.isnan(part.x[0][1])
    assert part.x[1] == [2.0, 3.0]


def test_one_column_of_text_is_raw_strings(tmp_path: Path) -> None:
    path = text(tmp_path, "a.csv", 'says,intent\n"hello, you",greet\nbye,leave\n')
    assert parts(path, label="intent") == [Part(["hello, you", "bye"], ["greet", "leave"])]


def test_numbers_and_categories_stay_side_by_side(tmp_path: Path) -> None:
    assert parts(text(tmp_path, "a.csv", "a,b\n1,red\n2,blue\n")) == [
        Part([[1, "red"], [2, "blue"]])
    ]


@pytest.mark.parametrize(
    ("content", "label", "says"),
    [
        ("a,b\n1\n", None, ":2: 1 fields"),
        ("a,b\n1,2\n", "c", "is no column of"),
        ("", None, "no input column"),
        ("a\n1\n", "a", "no input column"),
    ],
)
def test_a_csv_that_is_no_table_is_refused(
    tmp_path: Path, content: str, label: str | None, says: str
) -> None:
    with pytest.raises(DaemonError, match=says):
        parts(text(tmp_path, "a.csv", content), label=label)


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays) if path.suffix == ".npz" else save_file(arrays, path)
    return path


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_arrays_are_cut_into_parts_and_keep_their_dtype(tmp_path: Path, name: str) -> None:
    x, y = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([3, 4, 5])
    first, second = parts(save(tmp_path / name, {"x": x, "y": y}))
    assert (first.x.tolist(), first.y.tolist(), first.x.dtype) == (
        [[0, 1], [2, 3]],
        [3, 4],
        np.uint8,
    )
    assert (second.x.tolist(), len(second)) == ([[4, 5]], 1)


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_arrays_may_hold_labels_of_several_tasks(tmp_path: Path, name: str) -> None:
    ones = np.ones(2, np.int64)
    (part,) = parts(
        save(tmp_path / name, {"x": ones, "y.a": ones, "y.b": ones * 2, "mask.a": ones})
    )
    assert (part.y["b"].tolist(), sorted(part.mask)) == ([2, 2], ["a"])


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
@pytest.mark.parametrize(
    ("arrays", "says"),
    [({"y": np.ones(2)}, "allowed are x, y"), ({"x": np.ones(2), "z": np.ones(2)}, "allowed are x, y"),
     ({"x": np.ones(2), "y": np.ones(3)}, "y does not have the 2 rows of x")],
)  # fmt: skip
def test_arrays_that_are_no_rows_are_refused(
    tmp_path: Path, name: str, arrays: dict[str, np.ndarray], says: str
) -> None:
    with pytest.raises(DaemonError, match=says):
        parts(save(tmp_path / name, arrays))


def test_a_pickle_inside_an_npz_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DaemonError, match="pickles, which are never read"):
        parts(path)


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_a_torn_file_is_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, {"x": np.ones(99)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DaemonError, match="is not a"):
        parts(path)


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.jsonl", "a.csv"])
def test_a_file_that_is_missing_or_garbage_is_said_to_be_that(tmp_path: Path, name: str) -> None:
    with pytest.raises(DaemonError, match="cannot be read"):
        parts(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(DaemonError):
        parts(tmp_path / name)


def test_the_ending_of_the_name_decides_the_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"allowed are \.jsonl, \.csv, \.npz, \.safetensors"):
        parts(tmp_path / "a.pkl")
    with pytest.raises(ConfigError, match="--label is for csv, parquet, idx"):
        parts(tmp_path / "a.jsonl", label="y")
