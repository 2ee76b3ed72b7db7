"""Error messages for unknown names that say what was found, what is allowed and which name is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, found: str, allowed: Iterable[str]) -> str:
    """One sentence for an unknown name, with the nearest known one when there is a likely one."""
    known = sorted(str(name) for name in allowed)
    near = difflib.get_close_matches(found, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {found!r}: allowed are {', '.join(known) if known else 'none'}{hint}"
