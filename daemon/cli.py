"""`mtld`: finds the verb in what was typed, imports that one, and turns errors into one line and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

from daemon import early
from daemon.commands import COMMANDS
from daemon.commands.words import note
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typer import Typer

HELP = """Trains one multi-task model on an endless stream, without forgetting and without losing a row.

Exit codes: 0 ok, 1 failure, 2 usage, 3 daemon not running, 4 broker unreachable, 5 degraded, 6 timeout, 7 refused,
8 integrity failure, 9 another daemon has the stream, 75 temporary, try again."""


def build(verbs: Sequence[str]) -> Typer:
    """The application with these verbs, and only their modules imported."""
    import typer  # 25 ms, which a glance does without

    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help: quick, the same everywhere, readable in a pipe
        pretty_exceptions_enable=False,
    )
    app.callback()(_mtld)
    for name in verbs:
        module, _, attribute = COMMANDS[name].partition(":")
        found = vars(import_module(module))[attribute]
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def run(words: Sequence[str], launch: Callable[..., int]) -> int:
    """Carry out what was typed; `launch(config, start)` is how this process starts a daemon."""
    try:
        seen = _glance(words) if words[:1] == ["status"] else None
        if seen is not None:
            return seen
        verb = next((word for word in words or _to_complete() if not word.startswith("-")), None)
        app = build([verb] if verb in COMMANDS else list(COMMANDS))
        app(list(words), obj=launch, prog_name="mtld")
    except DaemonError as error:
        note(f"mtld: {error}")
        return error.exit_code
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


def _glance(words: Sequence[str]) -> int | None:
    from daemon.commands.glance import glance  # nothing that other verbs need

    return glance(words)


def _to_complete() -> list[str]:
    """What stands on the line that a shell wants completed, by the variables of typer's scripts; else nothing."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return line.split()[1:] if "_MTLD_COMPLETE" in os.environ else []


def main() -> int:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # a terminal that lacks a sign shows another, and no traceback
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:], _become_daemon)
    gc.freeze()  # a verb that loaded torch would look through all of it once more, for half a second, only to end
    return code


def _mtld() -> None:
    """Replaced by HELP; a callback makes every verb a sub-command even when only one is built."""


def _become_daemon(*_: object) -> NoReturn:
    """Replace this process, which knows no torch, by one that does; its flags are ours, checked already."""
    early.hold()
    os.execv(sys.executable, [sys.executable, "-m", "daemon", *sys.argv[1:]])  # noqa: S606 - our own interpreter
