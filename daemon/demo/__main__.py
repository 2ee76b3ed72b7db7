"""`python -m daemon.demo`: tells the story, prints the tables, and with --json one last line for programs."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import NoReturn

from daemon import finite
from daemon.demo.data import MissingData
from daemon.demo.report import stdout
from daemon.errors import DaemonError

MARK = ".made-by-mtld-demo"  # only a directory with this file in it is cleared


def main(arguments: list[str]) -> int:
    """Run the demo; 0 when every row is accounted for."""
    begin = monotonic()
    parser = argparse.ArgumentParser(
        prog="mtld demo", description="Real data into a real daemon, killed half-way."
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--strategy", default="default", help="the strategy on show")
    parser.add_argument("--state", type=Path, default=Path(".mtld-demo"), help="where it works")
    options = parser.parse_args(arguments)
    progress = stdout()
    signal.signal(signal.SIGTERM, _end)
    try:
        home = _fresh(options.state.resolve())
        progress.say(f"mtld demo: works in {options.state}, logs are there too")
        from daemon.demo.scenario import Scenario  # imports torch: after the first line

        result = Scenario(home, options.strategy, progress).run()
    except (DaemonError, MissingData) as error:
        progress.say(f"mtld demo: {error}")
        return error.exit_code if isinstance(error, DaemonError) else 1
    seconds = monotonic() - begin
    for line in ["", *result.lines(), "", f"{seconds:.0f} s in all."]:
        progress.say(line)
    if options.json:
        progress.say(finite.dumps(result.summary(seconds)))
    return 0 if result.accounting.lost == 0 else 1


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave as Ctrl-C would, so that no process of ours stays behind."""
    sys.exit(128 + number)


def _fresh(home: Path) -> Path:
    """An empty directory of ours; what an earlier run left is removed, what is not ours is refused."""
    if home.exists():
        if not (home / MARK).is_file():
            raise DaemonError(f"{home} exists and was not made by this demo: name another --state")
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / MARK).touch()
    return home


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
