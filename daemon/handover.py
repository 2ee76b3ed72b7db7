"""Verbs that need torch: the one that was typed replaces its process by a module that does the work.

The command line never loads torch itself, so that every other verb stays quick.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from daemon import finite
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable


def become(module: str, **wanted: Any) -> NoReturn:
    """Replace this process by `python -m module`, which gets `wanted` as JSON in its first argument."""
    sys.stdout.flush()
    words = [sys.executable, "-m", module, finite.dumps(wanted, default=str)]
    os.execv(sys.executable, words)  # noqa: S606 - our own interpreter


def carry_out(work: Callable[..., None]) -> int:
    """Do the work in the new process; an error becomes one line and its exit code, as for every verb."""
    try:
        work(**finite.loads(sys.argv[1]))
    except DaemonError as error:
        sys.stderr.write(f"mtld: {error}\n")
        return error.exit_code
    return 0
