"""`python -m daemon`: the same verbs as `mtld`, but `run` trains in this very process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from daemon import cli, tuning

if TYPE_CHECKING:
    from daemon.config import Config


def _launch(config: Config, start: str | None) -> int:
    tuning.before_torch()
    from daemon.app import main  # imports torch, which only this verb needs

    return main(config, start)


if __name__ == "__main__":
    sys.exit(cli.run(sys.argv[1:], _launch))
