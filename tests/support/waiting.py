"""Waiting for another process or thread without sleeping longer than needed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_PAUSE_S = 0.01  # between two looks; short beside what is waited for, long beside a look


def wait_until(look: Callable[[], T], timeout_s: float = 10.0, what: str = "") -> T:
    """Look until the answer is true and return it; AssertionError with the last answer when time is up."""
    end = time.monotonic() + timeout_s
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(
                f"waited {timeout_s} s for {what or look}, last answer: {answer!r}"
            )
        time.sleep(_PAUSE_S)
