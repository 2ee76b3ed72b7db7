"""`python -m daemon`: the same verbs as `mtld`, but `run` trains in this very process."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from daemon import cli

if TYPE_CHECKING:
    from daemon.config import Config


NICE = 10  # added to its niceness: training takes every core there is, and who looks at it at night should not wait


def _launch(config: Config, start: str | None) -> int:
    # Threads of OpenMP wait for each other by spinning, by its own choice for milliseconds: where another process
    # wants the core, a step then takes a hundred times as long. Must be set before OpenMP is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    with suppress(
        PermissionError
    ):  # a unit that forbids it gives the niceness itself, as ours does
        os.nice(NICE)
    # What torch makes as it is imported lives as long as the process. Looking through it for garbage takes a fifth of a
    # second of a start, twice that of an exit, and as long again in every full collection between two steps.
    gc.disable()
    from daemon.app import main  # imports torch, which only this verb needs

    gc.freeze()
    gc.enable()
    return main(config, start)


if __name__ == "__main__":
    sys.exit(cli.run(sys.argv[1:], _launch))
