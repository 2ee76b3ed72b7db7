"""Rows out of files, for `mtld push`: one file per format, one line in this table; in parts, so that size is no matter.

A reader is a generator `(path, reading) -> parts`. What is wrong with a file is said with its place in it; nothing is
guessed from one row that the next one could contradict.
"""

from __future__ import annotations

import re
import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from daemon.commands.rows.part import Part, Pictures, Reading
from daemon.errors import ConfigError, DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READERS = {
    "jsonl": "daemon.commands.rows.jsonl:read",
    "csv": "daemon.commands.rows.csv:read",
    "npz": "daemon.commands.rows.npz:read",
    "safetensors": "daemon.commands.rows.safetensors:read",
    "idx": "daemon.commands.rows.idx:read",
    "parquet": "daemon.commands.rows.parquet:read",
    "folder": "daemon.commands.rows.folder:read",
}
LABELLED = ("csv", "parquet", "idx")  # formats that --label is for
GZIPPED = ("jsonl", "csv", "idx")  # formats that may be gzipped


class Read(Protocol):
    """What every line of the table names."""

    def __call__(self, path: Path, reading: Reading) -> Iterator[Part]: ...


def read(
    path: Path, num_rows: int, label: str | None = None, pictures: Pictures | None = None
) -> Iterator[Part]:
    """The rows of a file or folder in order, at most `num_rows` at a time; `label` says where the labels are."""
    kind = _kind(path)
    if label is not None and kind not in LABELLED:
        raise ConfigError(
            f"--label is for {', '.join(LABELLED)}; {path.name} says itself what its labels are"
        )
    if pictures is not None and kind != "folder":
        raise ConfigError(f"--size and --grey are for a folder of pictures, not for {path.name}")
    module, _, name = READERS[kind].partition(":")
    reader = cast("Read", vars(import_module(module))[name])
    try:
        yield from reader(path, Reading(num_rows, label, pictures or Pictures()))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DaemonError(f"{path} cannot be read: {error}") from None


def _kind(path: Path) -> str:
    """The format, by the ending of the name; MNIST's own names (train-images-idx3-ubyte) are idx."""
    if path.is_dir():
        return "folder"
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    kind = "idx" if re.search(r"idx\d-ubyte$", plain) else plain.rpartition(".")[2]
    allowed = ", ".join(f".{one}" for one in READERS if one != "folder")
    if kind not in READERS or kind == "folder":
        raise ConfigError(
            f"{path} is not a format that is known by its name; allowed are {allowed}"
            " and a folder with one folder of PNG or JPEG for each class"
        )
    if plain != name and kind not in GZIPPED:
        raise ConfigError(f"{path} is gzipped; that is read of {', '.join(GZIPPED)}: gunzip it")
    return kind
