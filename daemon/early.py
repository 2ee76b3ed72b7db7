"""SIGTERM and SIGINT that come before the loop listens: the process ends with 0 and gives back what it had taken.

From `listen` on a signal is remembered. It is not raised while modules are imported, where an exception may be
swallowed or turn into another. Inside `raising` it interrupts whatever the start waits for, a server above all.
A second signal ends the process at once, which loses nothing that is durable.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_asked = False
_may_raise = False


class Left(BaseException):
    """The process was asked to end before it had read anything."""


def hold() -> None:
    """Let signals wait until the next `listen`, which may be that of the program this process becomes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    check()


def listen() -> None:
    """Remember signals from here on; raises Left when one has waited."""
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    check()


@contextmanager
def raising() -> Generator[None]:
    """A signal raises Left where it finds this block, also one that was remembered before."""
    global _may_raise
    _may_raise = True
    try:
        check()
        yield
    finally:
        _may_raise = False  # what was taken is given back undisturbed


def check() -> None:
    """Raise what was remembered, or what somebody swallowed."""
    if _asked:
        raise Left


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _asked
    del frame
    if _asked:
        os._exit(128 + number)
    _asked = True
    if _may_raise:
        raise Left
