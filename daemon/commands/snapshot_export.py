"""`mtld snapshot export`: a published snapshot as torch.export or ONNX graphs, checked against the model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from daemon import handover
from daemon.commands.shared import Call, Output, verb
from daemon.errors import Refused
from daemon.releases import snapshot_directory


class Target(StrEnum):
    """What a graph is for."""

    torch_export = "torch-export"
    onnx = "onnx"


@verb()
def export(
    call: Call,
    target: Annotated[Target, typer.Option("--format", "-f", help="torch-export or onnx.")],
    name: Annotated[
        str, typer.Argument(help="An alias, a number, v000123, or a snapshot's path.")
    ] = "champion",
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Only this one; may be repeated.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="A new folder (default: exports/ in the snapshot).")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", min=0.0, help="Allowed difference (default: 1e-4, see docs)."),
    ] = None,
) -> NoReturn:
    """Write one graph a task and a manifest.json that says what goes in, what comes out and how close it is.

    Texts and categories are turned into bytes and numbers outside the graph; the manifest says how. A graph that
    differs from the model on random and extreme rows is not written.
    """
    directory = snapshot_directory(call.state_dir / "models", name)
    folder = to or directory.resolve() / "exports" / target.value
    if folder.exists():
        raise Refused(f"{folder} exists; remove it, or name another folder with --to")
    handover.become(
        "daemon.export", model=directory, format=target.value, tasks=task or None, to=folder, tolerance=tolerance,
        as_json=call.output is Output.json,
    )  # fmt: skip
