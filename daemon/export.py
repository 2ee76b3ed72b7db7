"""`python -m daemon.export`: what `mtld snapshot export` becomes; a snapshot's graphs for other runtimes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon import finite, handover
from daemon.commands.words import columns, size
from daemon.errors import DaemonError, IntegrityError
from mtl_engine import export as engine_export
from mtl_engine import snapshot
from mtl_engine.errors import EngineError, StateError

if TYPE_CHECKING:
    from daemon.types import Json

HEADINGS = ("TASK", "FILE", "SIZE", "ERROR", "ALLOWED", "INPUTS")


def export(
    model: str,
    format: str,
    tasks: list[str] | None,
    to: str,
    tolerance: float | None,
    as_json: bool,
) -> None:
    """Write the folder `to`, or say why there is none."""
    for noisy in ("torch.onnx", "onnxscript", "onnx_ir"):  # what they skip and fold is no news here
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        loaded = snapshot.load(model)
    except (StateError, OSError) as error:
        raise IntegrityError(str(error)) from None
    try:
        manifest = engine_export.export(loaded, Path(to), format, tasks, tolerance)
    except (EngineError, OSError) as error:
        raise DaemonError(str(error)) from None
    if as_json:
        sys.stdout.write(finite.dumps({"path": to, **manifest}, indent=2) + "\n")
        return
    rows = [_row(name, entry, manifest["files"]) for name, entry in manifest["tasks"].items()]
    told = f"{Path(model).resolve().name} as {format} in {to}"
    sys.stdout.write("".join(f"{line}\n" for line in [told, "", *columns(rows, HEADINGS)]))


def _row(name: str, entry: Json, files: Json) -> tuple[Any, ...]:
    inputs = ", ".join(f"{one['name']} {one['dtype']} {_shape(one)}" for one in entry["inputs"])
    told = size(files[entry["file"]]["bytes"])
    return name, entry["file"], told, entry["max_error"], entry["tolerance"], inputs


def _shape(tensor: Json) -> str:
    return f"[{', '.join(str(n) for n in tensor['shape'])}]"


if __name__ == "__main__":
    sys.exit(handover.carry_out(export))
