"""`mtld status`: one screen that says how the trainer is and what to do next; a file read, no question asked."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from daemon.commands.report import tell
from daemon.commands.shared import Call, Output, verb

WATCH_S = 2.0


@verb()
def status(
    call: Call,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 5 when running but degraded; for monitoring.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again every 2 s, until Ctrl-C.")
    ] = False,
) -> None:
    """Say how the trainer is, what it learned, what it lost, and what to do next.

    Exits 3 when no daemon runs, after printing what the last one wrote. Asks nobody: it answers as quickly while the
    trainer computes, checkpoints or hangs.
    """
    exit_code = tell(call.state_dir, as_json=call.output is Output.json, check=check)
    try:
        while watch:
            time.sleep(WATCH_S)
            if call.output is Output.table and sys.stdout.isatty():
                typer.echo("\033[H\033[2J", nl=False)
            exit_code = tell(call.state_dir, as_json=call.output is Output.json, check=check)
    except KeyboardInterrupt:
        pass  # the way to end it, not a failure
    raise typer.Exit(exit_code)
