"""`mtld run`: the daemon in the foreground, as a supervisor or a terminal wants it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from daemon import early
from daemon.commands.shared import Call, Output, verb
from daemon.commands.words import note
from daemon.config import load


class Start(StrEnum):
    """Where a stream that was read before is joined by an empty state directory."""

    earliest = "earliest"
    group = "group"


@verb(log=True)
def run(
    call: Call,
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", envvar="MTLD_CONFIG", help="Settings, TOML (default: none)."
        ),
    ] = None,
    start: Annotated[
        Start | None,
        typer.Option(
            help="With an empty state directory: read from the log's start, or from where its group stands."
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", help="debug, info, warning or error (default info)."),
    ] = None,
) -> None:
    """Train until SIGTERM, which checkpoints and exits 0. Without a server of yours it starts its own.

    Logs go to stderr, as JSON lines with -o json or where stderr is no terminal. Every other verb finds the
    daemon by its state directory.
    """
    overrides = {
        "state_dir": call.state,
        "redis_url": call.redis_url,
        "namespace": call.namespace,
        "password_file": call.password_file,
        "log.level": log_level,
        "log.format": "json" if call.output is Output.json else None,
    }
    settings = load(config, overrides)
    try:
        early.listen()
        exit_code: int = ctx.obj(settings, start.value if start else None)
    except early.Left:
        note("mtld: asked to end before anything was read")
        exit_code = 0
    raise typer.Exit(exit_code)
