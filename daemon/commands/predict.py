"""`mtld predict`: labels for rows from a published snapshot; needs no running daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from daemon import handover
from daemon.commands.shared import Call, Output, verb
from daemon.errors import ConfigError
from daemon.releases import snapshot_directory


@verb()
def predict(
    call: Call,
    task: Annotated[str, typer.Option("--task", "-t", help="The task.")],
    file: Annotated[
        Path, typer.Argument(help="Rows: a .jsonl or .npz file, or - for either on stdin.")
    ] = Path("-"),
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="An alias, a number, v000123, or a snapshot's path."),
    ] = "champion",
    to: Annotated[
        Path | None,
        typer.Option("--to", help="A new .jsonl or .npz file (default: stdout, as the rows came)."),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=65_536, help="Rows in one forward.")
    ] = 256,
    proba: Annotated[
        bool,
        typer.Option(
            "--proba", help="With the probabilities, as the stream's class shares make them."
        ),
    ] = False,
) -> NoReturn:
    """Answer rows with one snapshot, which is chosen at the start and named in every row of the answer.

    A line {"x": ..., "id": ...} or {"text": ...} is answered by {"row", "id", "prediction", "version"}, batch by batch;
    an .npz with x by one with prediction and version. What other columns a line has is not looked at.
    """
    if str(file) != "-" and not file.is_file():
        raise ConfigError(f"{file} is no file; name one, or - for stdin")
    if to is not None and to.suffix not in {".jsonl", ".npz"}:
        raise ConfigError(f"--to {to} ends in {to.suffix!r}; allowed are .jsonl, .npz")
    handover.become(
        "daemon.predict", source=file, task=task, model=snapshot_directory(call.state_dir / "models", model),
        to=to, rows=rows, proba=proba, as_json=call.output is Output.json,
    )  # fmt: skip
