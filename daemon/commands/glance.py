"""The usual forms of `mtld status` without the command-line library, whose import would be a third of the time to an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.commands.report import tell
from daemon.places import state_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUED = {"--state": "state", "--output": "output", "-o": "output"}


def glance(words: Sequence[str]) -> int | None:
    """Answer `status` with --state, --output and --check; None where anything else was typed, to be parsed in full."""
    given = _parsed(words)
    if given is None:
        return None
    state, output, check = given.get("state"), given.get("output", "table"), "check" in given
    if output not in ("table", "json"):
        return None
    return tell(state_directory(state), as_json=output == "json", check=check)


def _parsed(words: Sequence[str]) -> dict[str, str] | None:
    """Values of known options that are written out in full; of repeated ones the last counts."""
    if not words or words[0] != "status":
        return None
    given: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--check":
            given["check"] = ""
        elif name in _VALUED:
            value = value if equals else next(rest, "")
            if not value or (equals and name == "-o"):
                return None
            given[_VALUED[name]] = value
        else:
            return None
    return given
