"""Pictures, idx and parquet as rows, gzipped text, and the bounds that no file can make us pass."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from daemon.commands.rows import READERS, read
from daemon.commands.rows import text as text_lines
from daemon.commands.rows.part import PART_BYTES, Part, Pictures
from daemon.errors import ConfigError, DaemonError


def parts(path: Path, num_rows: int = 2, label: object = None, **how: Any) -> list[Part]:
    return list(read(path, num_rows, None if label is None else str(label), **how))


def test_every_format_has_a_reader_that_can_be_loaded() -> None:
    from importlib import import_module

    for where in READERS.values():
        module, _, name = where.partition(":")
        assert callable(vars(import_module(module))[name])


# -- idx ------------------------------------------------------------------------------------------------------


def idx(path: Path, array: np.ndarray, kind: int = 8) -> Path:
    head = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("ending", ["-idx3-ubyte", "-idx3-ubyte.gz", ".idx", ".idx.gz"])
def test_images_and_labels_of_two_idx_files_go_together(tmp_path: Path, ending: str) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    x = idx(tmp_path / f"train-images{ending}", images)
    y = idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([7, 8, 9], np.uint8))
    first, second = parts(x, label=y)
    assert (first.x.tolist(), first.y.tolist()) == (images[:2].tolist(), [7, 8])
    assert (second.x.dtype, second.y.tolist(), second.done) == (np.uint8, [9], 1.0)
    assert parts(x)[0].y is None


def test_idx_numbers_are_big_endian(tmp_path: Path) -> None:
    (part,) = parts(idx(tmp_path / "a.idx", np.array([[1.5, -2.0]], ">f4"), 13))
    assert part.x.tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "not an idx"), (b"\1\0\x08\1", "not an idx"), (b"\0\0\x08\1\0\0", "too early"),
     (b"\0\0\x08\1\0\0\0\5abc", "too early"), (b"\0\0\x08\2\0\0\0\1\xff\xff\xff\xff", "an event takes")],
)  # fmt: skip
def test_an_idx_file_that_is_not_whole_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(data)
    with pytest.raises(DaemonError, match=says):
        parts(path)


def test_labels_must_be_as_many_as_images(tmp_path: Path) -> None:
    x = idx(tmp_path / "x.idx", np.zeros((3, 2, 2), np.uint8))
    y = idx(tmp_path / "y.idx", np.zeros(2, np.uint8))
    with pytest.raises(DaemonError, match="y does not have the 3 rows of x"):
        parts(x, label=y)
    with pytest.raises(DaemonError, match="cannot be read"):
        parts(x, label=tmp_path / "none.idx")


# -- gzip and bounds --------------------------------------------------------------------------------------------


def test_text_may_be_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"x": [1.5], "y": 0}\n' * 3))
    assert [len(part) for part in parts(path)] == [2, 1]
    table = tmp_path / "a.csv.gz"
    table.write_bytes(gzip.compress(b"a,y\n1,2\n"))
    assert parts(table, label="y") == [Part([[1.0]], [2])]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.idx.gz"])
def test_a_gzip_file_that_breaks_off_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(4096))[:200])
    with pytest.raises(DaemonError):
        parts(path)
    path.write_bytes(b"not gzip")
    with pytest.raises(DaemonError, match="cannot be read"):
        parts(path)


def test_a_line_is_bounded_however_well_it_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE", 1000)
    for name in ("a.jsonl.gz", "a.csv.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"1" * 2000))
        with pytest.raises(DaemonError, match=r":1: a line of more than 1000 characters"):
            parts(path)


def test_an_archive_that_unpacks_to_much_more_than_it_is_is_never_held_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((64, 1 << 20), np.uint8))  # 64 MiB in 64 KiB
    tracemalloc.start()
    assert sum(len(part) for part in read(path, 64)) == 64
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * PART_BYTES  # the bytes, the array, and what zlib holds


def test_rows_that_are_large_share_an_event_with_fewer(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((3, PART_BYTES // 2), np.uint8))
    assert [len(part) for part in parts(path, 64)] == [2, 1]
    np.savez(path, x=np.zeros((1, PART_BYTES + 1), np.uint8))
    with pytest.raises(DaemonError, match="an event takes"):
        parts(path)


def test_an_array_whose_header_promises_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(4, np.uint8))
    with zipfile.ZipFile(path) as archive:
        data = archive.read("x.npy").replace(b"(4,)", b"(9,)")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", data)
    with pytest.raises(DaemonError, match="ends before its 9 rows"):
        parts(path, 64)


def test_an_array_that_is_stored_by_columns_is_refused_with_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(np.zeros((2, 3))))
    with pytest.raises(DaemonError, match="ascontiguousarray"):
        parts(tmp_path / "a.npz")


def test_a_csv_field_beyond_all_measure_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(DaemonError, match=":2: field larger"):
        parts(path)


# -- parquet ----------------------------------------------------------------------------------------------------


def test_a_parquet_table_reads_like_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1, 3, 5], "b": [2.5, None, 6.0], "kind": ["u", "v", "u"]}), path)
    first, second = parts(path, label="kind")
    assert (first.x[0], first.y, np.isnan(first.x[1][1])) == ([1.0, 2.5], ["u", "v"], True)
    assert second == Part([[5.0, 6.0]], ["u"])
    with pytest.raises(ConfigError, match="is no column of"):
        parts(path, label="z")


def test_a_parquet_file_may_name_its_columns_as_an_event_does(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [[1.0, 2.0], [3.0, 4.0]], "y.a": [0, 1], "y.b": [5, 6]}), path)
    (part,) = parts(path)
    assert part.x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert (part.y["a"].tolist(), part.y["b"].tolist()) == ([0, 1], [5, 6])


def test_pictures_inside_a_parquet_file_stay_bytes(tmp_path: Path) -> None:
    pictures = [[[0, 255], [3, 4]], [[5, 6], [7, 8]]]
    column = pa.array(pictures, pa.list_(pa.list_(pa.uint8())))
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    (part,) = parts(tmp_path / "a.parquet")
    assert (part.x.dtype, part.x.tolist()) == (np.uint8, pictures)


@pytest.mark.parametrize(
    ("table", "label", "says"),
    [
        ({"a": [1, 2], "y": [1, None]}, "y", "without a label"),
        ({"x": [1, 2], "z": [1, 2]}, None, "have x, y, mask, weight"),
        ({"x": [1, None]}, None, "without a value"),
        ({"x": [[1], [1, 2]]}, None, "lists of different lengths"),
    ],
)
def test_a_parquet_file_that_is_no_rows_is_refused(
    tmp_path: Path, table: dict[str, Any], label: str | None, says: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(DaemonError, match=says):
        parts(tmp_path / "a.parquet", label=label)


def test_what_is_no_parquet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(DaemonError, match="cannot be read"):
        parts(path)
    path.write_bytes(b"PAR1garbage")
    with pytest.raises(DaemonError, match="is not a parquet file"):
        parts(path)
    monkeypatch.setattr("daemon.commands.rows.parquet.find_spec", lambda _: None)
    with pytest.raises(DaemonError, match=r"pip install 'mtld\[parquet\]'"):
        parts(path)


# -- pictures ---------------------------------------------------------------------------------------------------


def picture(path: Path, size: tuple[int, int] = (3, 2), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 9 if mode == "L" else None).save(path)
    return path


def test_a_folder_of_pictures_is_a_class_a_folder(tmp_path: Path) -> None:
    for name in ("dog/b.png", "cat/2.JPG", "cat/1.png", "cat/notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no picture")
        else:
            picture(tmp_path / name)
    first, second = parts(tmp_path)
    assert (first.x.shape, first.x.dtype, first.y) == ((2, 2, 3, 3), np.uint8, ["cat", "cat"])
    assert (second.y, second.done) == (["dog"], 1.0)


def test_grey_pictures_have_no_axis_of_colours_and_all_may_be_made_so(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png", mode="L")
    assert parts(tmp_path)[0].x.tolist() == [[[9, 9, 9], [9, 9, 9]]]
    picture(tmp_path / "a/2.png")
    with pytest.raises(DaemonError, match=r"2\.png is 3x2 in colour, .*1\.png is 3x2 grey"):
        parts(tmp_path)
    assert parts(tmp_path, pictures=Pictures(grey=True))[0].x.shape == (2, 2, 3)


def test_mixed_sizes_are_refused_and_the_message_says_how_to_scale(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "b/1.png", (5, 4))
    with pytest.raises(DaemonError, match=r"is 5x4 .* is 3x2 .*--size WIDTHxHEIGHT"):
        parts(tmp_path)
    assert parts(tmp_path, pictures=Pictures(size=(4, 6)))[0].x.shape == (2, 6, 4, 3)


def test_what_is_no_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DaemonError, match="a folder for each class"):
        parts(tmp_path)
    path = picture(tmp_path / "a/1.png")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DaemonError, match=r"1\.png cannot be read as a picture"):
        parts(tmp_path)
    Image.new("I;16", (3, 2)).save(path)
    with pytest.raises(DaemonError, match="more than 8 bits"):
        parts(tmp_path)
    monkeypatch.setattr("daemon.commands.rows.folder.MAX_PIXELS", 5)
    picture(path)
    with pytest.raises(DaemonError, match="3 x 2 pixels"):
        parts(tmp_path)
    monkeypatch.setattr("daemon.commands.rows.folder.find_spec", lambda _: None)
    with pytest.raises(DaemonError, match=r"pip install 'mtld\[images\]'"):
        parts(tmp_path)


def test_options_are_refused_where_they_mean_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"x": [1]}))
    with pytest.raises(ConfigError, match="for a folder of pictures"):
        parts(tmp_path / "a.jsonl", pictures=Pictures(grey=True))
    with pytest.raises(ConfigError, match="gunzip it"):
        parts(tmp_path / "a.npz.gz")
