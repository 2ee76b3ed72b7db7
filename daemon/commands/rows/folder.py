"""Rows of a folder of pictures: each folder in it is a class, its PNG and JPEG files are the rows, by name.

Through pillow, which is an extra. A row is uint8 [height, width], or [height, width, 3] where pictures have colours.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.commands.rows.part import Part, Pictures, Reading, at_once
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDINGS = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 1 << 26  # of one file, before it is decoded: 256 MiB unpacked


def read(path: Path, reading: Reading) -> Iterator[Part]:
    """Class after class; all pictures must have one shape."""
    if find_spec("PIL") is None:
        raise DaemonError("reading pictures needs pillow: pip install 'mtld[images]'")
    files = [(one, one.parent.name) for one in _files(path)]
    if not files:
        raise DaemonError(
            f"{path} has no pictures; it must have a folder for each class, with PNG or JPEG files in it"
        )
    first = _picture(files[0][0], reading.pictures)
    step, left, done = at_once(path, reading.num_rows, first.nbytes), iter(files), 0
    while chunk := list(islice(left, step)):
        pictures = [
            _alike(_picture(one, reading.pictures), one, first, files[0][0]) for one, _ in chunk
        ]
        done += len(chunk)
        yield Part(np.stack(pictures), [label for _, label in chunk], done=done / len(files))


def _files(path: Path) -> Iterator[Path]:
    for folder in sorted(one for one in path.iterdir() if one.is_dir()):
        yield from sorted(one for one in folder.iterdir() if one.suffix.lower() in ENDINGS)


def _picture(path: Path, pictures: Pictures) -> np.ndarray[Any, Any]:
    image_module = import_module("PIL.Image")
    try:
        with image_module.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DaemonError(
                    f"{path} has {image.width} x {image.height} pixels; make it smaller"
                )
            if image.mode.startswith(("I", "F")):
                raise DaemonError(f"{path} has more than 8 bits a value; convert it to 8")
            grey = pictures.grey or image.mode in {"1", "L", "LA"}
            found = image.convert("L" if grey else "RGB")
    except (OSError, SyntaxError, ValueError, *_bombs(image_module)) as error:
        raise DaemonError(f"{path} cannot be read as a picture: {error}") from None
    return np.asarray(found.resize(pictures.size) if pictures.size else found)


def _bombs(image_module: Any) -> tuple[type[Exception], type[Exception]]:
    """What pillow raises by itself for a file that says it has very many pixels."""
    return image_module.DecompressionBombError, image_module.DecompressionBombWarning


def _alike(
    picture: np.ndarray[Any, Any], path: Path, first: np.ndarray[Any, Any], first_path: Path
) -> np.ndarray[Any, Any]:
    if picture.shape != first.shape:
        raise DaemonError(
            f"{path} is {_told(picture)}, {first_path} is {_told(first)}: all must be alike;"
            " --size WIDTHxHEIGHT scales them, --grey takes the colours out"
        )
    return picture


def _told(picture: np.ndarray[Any, Any]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]} {'in colour' if picture.ndim == 3 else 'grey'}"
