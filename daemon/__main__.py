"""`python -m daemon`: the same verbs as `mtld`, but `run` trains in this very process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from daemon import cli

if TYPE_CHECKING:
    from daemon.config import Config


def _launch(config: Config, start: str | None) -> int:
    # Threads that wait by spinning take the core from the server they wait for: on a shared host a step then
    # takes twenty times as long. Must be set before OpenMP is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from daemon.app import main  # imports torch, which only this verb needs

    return main(config, start)


if __name__ == "__main__":
    sys.exit(cli.run(sys.argv[1:], _launch))
