"""`python -m daemon.predict`: what `mtld predict` becomes; rows in, answers of one snapshot out, in batches."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from daemon import finite, handover
from daemon.errors import ConfigError, DaemonError, IntegrityError
from mtl_engine import snapshot
from mtl_engine.errors import EngineError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.types import Json
    from mtl_engine.snapshot import SnapshotModel

Batch = tuple[Any, list[Any] | None]
"""Inputs, and the rows' own ids where they have any."""


def predict(
    source: str, task: str, model: str, to: str | None, rows: int, proba: bool, as_json: bool
) -> None:
    """Answer the rows of `source` ("-" = stdin); `to` None = stdout, in the format in which the rows came."""
    loaded, version = _load(Path(model), task, proba)
    with ExitStack() as stack:
        opened = sys.stdin.buffer if source == "-" else stack.enter_context(Path(source).open("rb"))
        file = cast("io.BufferedReader", opened)
        is_npz = file.peek(2)[:2] == b"PK"
        batches = _npz(file, rows) if is_npz else _jsonl(file, rows)
        answers = _answers(loaded, task, version, batches, proba)
        write = _write_npz if (Path(to).suffix == ".npz" if to else is_npz) else _write_jsonl
        if to is None:
            if write is _write_npz and sys.stdout.isatty():
                raise ConfigError("an .npz is not for a terminal; name a file with --to")
            write(answers, sys.stdout.buffer)
            return
        num = _to_file(Path(to), lambda out: write(answers, out))
    told: Json = {"rows": num, "version": version, "path": to}
    sys.stdout.write(finite.dumps(told) if as_json else f"{num:,} rows by {version} -> {to}")
    sys.stdout.write("\n")


def _load(path: Path, task: str, proba: bool) -> tuple[SnapshotModel, str]:
    try:
        model = snapshot.load(path)
    except (StateError, OSError) as error:
        raise IntegrityError(str(error)) from None
    try:
        kind = model.registry[task].spec.kind
    except EngineError as error:
        raise ConfigError(str(error)) from None
    if proba and kind == "regression":
        raise ConfigError(f"{task} is a regression and has no probabilities; leave --proba out")
    return model, path.resolve().name


def _answers(
    model: SnapshotModel, task: str, version: str, batches: Iterator[Batch], proba: bool
) -> Iterator[list[Json]]:
    """A list of answers for each batch."""
    done = 0
    for x, ids in batches:
        try:
            found = model.predict(task, x)
            chances = model.predict_proba(task, x) if proba else None
        except EngineError as error:
            raise DaemonError(f"rows {done} to {done + len(x) - 1}: {error}") from None
        part: list[Json] = []
        for k, value in enumerate(found.tolist()):
            answer: Json = {"row": done + k}
            if ids is not None and ids[k] is not None:
                answer["id"] = ids[k]
            answer |= {"prediction": value, "version": version}
            if chances is not None:
                answer["probabilities"] = _named(chances[k].tolist(), model.classes(task))
            part.append(answer)
        done += len(part)
        yield part


def _named(chances: list[float], labels: list[int | str]) -> Any:
    return {str(label): p for label, p in zip(labels, chances, strict=True)} if labels else chances


# -- rows in -------------------------------------------------------------------------------------------------


def _jsonl(file: IO[bytes], rows: int) -> Iterator[Batch]:
    lines = (_line(number, line) for number, line in enumerate(file, 1) if line.strip())
    while part := list(islice(lines, rows)):
        yield [x for x, _ in part], [own for _, own in part]


def _line(number: int, line: bytes) -> tuple[Any, Any]:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    row = cast("Json", found) if isinstance(found, dict) else {}
    if "x" not in row and "text" not in row:
        raise DaemonError(f'line {number}: not a row; write {{"x": ...}} or {{"text": ...}}')
    return row.get("x", row.get("text")), row.get("id")


def _npz(file: IO[bytes], rows: int) -> Iterator[Batch]:
    try:
        with np.load(io.BytesIO(file.read()), allow_pickle=False) as archive:
            x = archive["x"] if "x" in archive.files else None
            ids = archive["id"].tolist() if "id" in archive.files else None
    except (ValueError, OSError) as error:
        raise DaemonError(f"the .npz cannot be read: {error}") from None
    if x is None or not x.ndim:
        raise DaemonError("the .npz has no rows; name the array with the inputs x")
    for start in range(0, len(x), rows):
        yield x[start : start + rows], ids and ids[start : start + rows]


# -- answers out ---------------------------------------------------------------------------------------------


def _write_jsonl(answers: Iterator[list[Json]], out: IO[bytes]) -> int:
    num = 0
    for part in answers:
        out.write("".join(f"{finite.dumps(one, ensure_ascii=False)}\n" for one in part).encode())
        out.flush()
        num += len(part)
    return num


def _write_npz(answers: Iterator[list[Json]], out: IO[bytes]) -> int:
    """All answers at once: an .npz has its arrays whole."""
    found = [one for part in answers for one in part]
    columns = [name for name in ("id", "prediction", "version") if found and name in found[0]]
    arrays: dict[str, Any] = {name: np.array([one[name] for one in found]) for name in columns}
    if found and "probabilities" in found[0]:
        chances: list[Any] = [one["probabilities"] for one in found]
        if isinstance(chances[0], dict):
            arrays["labels"] = np.array(list(cast("Json", chances[0])))
            chances = [list(one.values()) for one in chances]
        arrays["probabilities"] = np.array(chances, np.float32)
    if any(array.dtype == object for array in arrays.values()):
        raise DaemonError(
            "ids of an .npz are all numbers or all strings; leave id out, or write .jsonl"
        )
    written = io.BytesIO()  # a pipe cannot seek, as zip wants
    np.savez(written, **arrays)
    out.write(written.getbuffer())
    out.flush()
    return len(found)


def _to_file(path: Path, write: Callable[[IO[bytes]], int]) -> int:
    """Write beside the file and rename, so that nobody sees half of it."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with tmp.open("wb") as out:
            num = write(out)
        tmp.replace(path)
    except OSError as error:
        raise DaemonError(f"{path} cannot be written: {error}") from None
    finally:
        tmp.unlink(missing_ok=True)
    return num


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends us quietly
    sys.exit(handover.carry_out(predict))
