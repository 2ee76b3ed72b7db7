"""Writes docs/mtld.1, the manual page of the command line, from the verbs themselves.

`python docs/manual.py` writes, `tests/test_manual.py` compares. man(7) has the macros.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "mtld.1"
COMMON = ("state", "output", "redis_url", "namespace", "password_file")

INTRODUCTION = """\
.SH NAME
mtld \\- trains one multi\\-task model on an endless stream of events
.SH SYNOPSIS
.B mtld
.I verb
.RI [ options ]
.SH DESCRIPTION
.B mtld run
is a daemon that learns from a Redis stream without forgetting and without losing a row; every other verb asks it,
steers it or looks at what it wrote. Verbs find their daemon by its state directory.
"""
EXAMPLES = """\
.SH EXAMPLES
Start, feed and look:
.PP
.RS 4
.nf
mtld init && mtld run \\-c mtld.toml &
mtld task add mood \\-\\-modality text \\-\\-wait
mtld push mood.jsonl \\-\\-task mood
mtld status
.fi
.RE
.PP
At night, in this order: what is wrong, is the set\\-up sane, what happened, what was refused:
.PP
.RS 4
.nf
mtld status
mtld doctor
mtld tail
mtld dead list
.fi
.RE
"""
FILES = """\
.SH FILES
.TP
.I ~/.local/state/mtld
The state directory, unless \\-\\-state, MTLD_STATE or the settings name another:
.IR checkpoints/ ", " models/ ", " vitals.json ", " control.sock ", " broker/ .
.TP
.I mtld.toml
Settings;
.B mtld init
writes one to start from.
"""


def main() -> None:
    """Write the page."""
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    head = f'.TH MTLD 1 "" "mtld {project["version"]}" "User Commands"\n.ad l\n.nh\n'
    verbs = dict(_verbs())
    parts = ["".join(_section(name, command)) for name, command in verbs.items()]
    return "".join(
        [
            '.\\" Written by docs/manual.py; change the verbs, not this.\n', head, INTRODUCTION, ".SH VERBS\n", *parts,
            *_common(verbs), *_exit_codes(), *_environment(verbs), FILES, EXAMPLES,
        ]
    )  # fmt: skip


def _verbs() -> Iterator[tuple[str, Any]]:
    """Every verb that can be typed, `task add` too, with its command."""
    import typer

    cli, commands = import_module("daemon.cli"), import_module("daemon.commands")
    root: Any = typer.main.get_command(cli.build(list(commands.COMMANDS)))
    for name in commands.COMMANDS:
        command = root.commands[name]
        for inner, one in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", one
        if not hasattr(command, "commands"):
            yield name, command


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join(_placeholder(one) for one in arguments)
    yield f".SS mtld {escaped(name)} {usage}".rstrip() + "\n"
    for number, paragraph in enumerate((command.help or "").strip().split("\n\n")):
        yield ".PP\n" if number else ""
        yield f"{escaped(' '.join(paragraph.split()))}\n"
    for one in command.params:
        if one.name not in {*COMMON, "help"}:
            yield _option(one)


def _placeholder(argument: Any) -> str:
    shown = f"{argument.name.upper()}{'...' if argument.nargs == -1 else ''}"
    return escaped(shown if argument.required else f"[{shown}]")


def _option(one: Any) -> str:
    if one.param_type_name == "argument":
        return f".TP\n.I {_placeholder(one)}\n{escaped(one.help or '')}\n"
    names = ", ".join(f"\\fB{escaped(name)}\\fR" for name in sorted(one.opts, key=len))
    kind = "|".join(getattr(one.type, "choices", ())) or (one.metavar or one.type.name).upper()
    value = "" if one.is_flag else f" \\fI{escaped(kind)}\\fR"
    default = one.default if isinstance(one.default, int | float) and not one.is_flag else None
    told = f" (default {default:g})" if default is not None else ""
    return f".TP\n{names}{value}\n{escaped((one.help or '') + told)}\n"


def _common(verbs: dict[str, Any]) -> Iterator[str]:
    yield ".SH COMPLETION\n.B mtld \\-\\-install\\-completion\nmakes the shell complete verbs, options and the names of tasks.\n"
    yield ".SH COMMON OPTIONS\nVerbs that talk to the server of the log take all of them, the others the first two.\n"
    yield from (_option(one) for one in _params(verbs).values() if one.name in COMMON)


def _params(verbs: dict[str, Any]) -> dict[str, Any]:
    """The options of all verbs by name, once each, the common ones in their order."""
    found = {one.name: one for command in verbs.values() for one in command.params}
    return {name: found[name] for name in (*COMMON, *sorted(set(found) - set(COMMON)))}


def _exit_codes() -> Iterator[str]:
    generate = import_module("generate")
    yield ".SH EXIT STATUS\n"
    for line in generate.exit_codes().splitlines()[2:]:
        code, meaning = (cell.strip().replace("`", "") for cell in line.strip("|").split("|"))
        yield f".TP\n.B {code}\n{escaped(meaning)}\n"


def _environment(verbs: dict[str, Any]) -> Iterator[str]:
    yield ".SH ENVIRONMENT\n"
    for one in _params(verbs).values():
        if getattr(one, "envvar", None):
            yield f".TP\n.B {escaped(one.envvar)}\nThe same as {escaped(one.opts[0])}.\n"


def escaped(text: str) -> str:
    """Text as roff prints it: hyphens that can be copied, no line that looks like a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(aq")
    return re.sub(r"^(?=[.'])", r"\\&", safe, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
