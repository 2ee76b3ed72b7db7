"""`mtld sidecar`: probes, metrics and the live page, from a process beside the trainer."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.commands.shared import Call, verb


@verb()
def sidecar(
    call: Call,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", envvar="MTLD_LISTEN", help="HOST:PORT, an address of this machine alone."
        ),
    ] = "127.0.0.1:9464",
) -> None:
    """Serve /metrics, /livez, /readyz, /healthz and the live page until SIGTERM.

    Reads the files of the state directory and asks the trainer nothing, so it answers while the trainer computes,
    checkpoints, hangs or is dead. Start it once for each daemon.
    """
    from daemon.sidecar import serve  # the metrics library, which no other verb needs

    raise typer.Exit(serve(call.state_dir, listen))
