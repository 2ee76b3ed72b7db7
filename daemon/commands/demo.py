"""`mtld demo`: hands over to the demonstration, which is a program of its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from daemon.commands.shared import Format, Output


def demo(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Passed on, after --; see `mtld demo -- --help`.")
    ] = None,
    output: Format = Output.table,
) -> NoReturn:
    """Stream real data into a real daemon, kill it half-way, and compare what it knows with plain fine-tuning.

    Starts its own server and daemon in a temporary directory and takes about two minutes. With -o json its last line
    is one JSON object with the scores and the accounting.
    """
    passed = [*(arguments or []), *(["--json"] if output is Output.json else [])]
    os.execv(sys.executable, [sys.executable, "-m", "daemon.demo", *passed])  # noqa: S606 - our own interpreter
