"""`mtld pause`: stop training and stay; it outlives a restart."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from daemon.commands.shared import Call, Timeout, told, verb
from daemon.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@verb()
def pause(
    call: Call,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; shown by status and kept in the journal.")
    ] = "",
    duration: Annotated[
        str | None,
        typer.Option("--for", help="Resume by itself after this long: 90s, 30m, 2h, 1d."),
    ] = None,
    timeout_s: Timeout = 30.0,
) -> None:
    """Stop reading and training, checkpoint, and wait for `mtld resume`.

    Events stay in the log meanwhile; producers wait once the daemon is their bound behind. A paused daemon stays
    paused when it is restarted.
    """
    args = {"reason": reason or "no reason given"}
    if duration is not None:
        until = datetime.now(UTC) + timedelta(seconds=seconds(duration))
        args["until"] = until.isoformat(timespec="seconds")
    call.ask(
        "pause", args, timeout_s, lambda reply: [f"paused{told(reply)}; go on with `mtld resume`"]
    )


def seconds(text: str, flag: str = "--for") -> float:
    """A duration such as 90s, 30m, 1.5h or 1d, given with `flag`, in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None or float(match[1]) == 0:
        raise ConfigError(
            f"{flag} is {text!r}; write a number and one of s, m, h, d, for example 30m"
        )
    return float(match[1]) * _UNITS[match[2]]
