"""What a task may be called, and how anything a producer sent is shown in a message."""

from __future__ import annotations

import re
import reprlib

from daemon.errors import BadEvent

MAX_NAME_CHARS = 64  # a name becomes a metric label, a tensor name and part of a file name
MAX_SHOWN_CHARS = 80  # a message is kept in the dead letter and in every log line about it
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_NAME_CHARS - 1}}}", re.ASCII)


def task_name(name: str) -> str:
    """The name itself, or BadEvent `bad_task_name`."""
    if _NAME.fullmatch(name) is None:
        raise BadEvent(
            "bad_task_name",
            f"task name {shown(name)}: allowed are 1 to {MAX_NAME_CHARS} ASCII letters, digits, "
            "'_' and '-', the first a letter or digit",
        )
    return name


def shown(value: object) -> str:
    """A value in plain ASCII, cut to a length that every log and dead letter can hold."""
    if isinstance(value, (str, bytes)):
        text = ascii(value[:MAX_SHOWN_CHARS])
    else:  # reprlib looks at the first few items only: a value may be as large as an event
        text = reprlib.repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 3]}..."
