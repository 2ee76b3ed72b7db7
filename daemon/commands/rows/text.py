"""Text files line by line, gzipped or not: streamed, every line of bounded length, and how far the file is read."""

from __future__ import annotations

import gzip
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from typing import BinaryIO

MAX_LINE = 64 << 20  # characters; an event takes 16 MiB, and numbers are longer as text


class Lines:
    """The lines of an open file; `number` is that of the last one."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self.number = 0
        self._path, self._raw = path, raw
        self._size = max(1, path.stat().st_size)
        unpacked = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        self._text = io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MAX_LINE:
            raise DaemonError(f"{self.place}: a line of more than {MAX_LINE} characters")
        return line

    def rewind(self) -> Iterator[str]:
        """From the first line again."""
        self._text.seek(0)
        self.number = 0
        return self

    @property
    def place(self) -> str:
        return f"{self._path}:{self.number}"

    @property
    def done(self) -> float:
        """The part of the file that is read."""
        return min(1.0, self._raw.tell() / self._size)


@contextmanager
def lines(path: Path) -> Generator[Lines]:
    """The lines of a file."""
    with path.open("rb") as raw:
        yield Lines(path, raw)
