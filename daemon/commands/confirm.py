"""Typed confirmation: what cannot be undone is done when its name was typed, at the terminal or with --confirm."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from daemon.errors import Refused

Confirm = Annotated[
    str | None,
    typer.Option(
        "--confirm", metavar="NAME", help="The name, instead of typing it when asked; for scripts."
    ),
]


def confirmed(consequence: str, name: str, given: str | None) -> None:
    """Return if `name` was given or is typed now; Refused otherwise, also where nobody can be asked."""
    if given is None and sys.stdin.isatty():
        sys.stderr.write(f"{consequence}\nType {name} to go on: ")
        sys.stderr.flush()
        given = sys.stdin.readline().strip()
    if given is None:
        raise Refused(f"{consequence}; say --confirm {name} if that is meant")
    if given != name:
        raise Refused(f"{given!r} is not {name!r}: nothing was changed")
