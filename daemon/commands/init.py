"""`mtld init`: writes a settings file to start from: every setting with its meaning, commented out at its default."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.commands.config import toml
from daemon.commands.shared import Call, DryRun, verb
from daemon.config import Config
from daemon.errors import DaemonError, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
# Settings of mtld. "# " begins an explanation; "#" and a name is the default, to be changed without the "#".
# `mtld config check -c FILE` says whether a daemon would start with this file, `mtld run -c FILE` starts it.
"""

# The engine's keywords; the operator's side does not import it, so a test compares these with its defaults.
ENGINE = """
[engine]
# how old and new knowledge are balanced: finetune, er, er_ace, derpp, lwf, snapshot, default
#strategy = "default"
# rows kept for replay, over all tasks
#buffer_rows = 500
# rows replayed in a step
#replay_batch = 32
# the optimizer and its arguments; unset, it is what the strategy was measured with
#optimizer = {name = "adamw", lr = 0.001, betas = [0.5, 0.95]}
# which weights are scored, published and taught with: ema (averaged), raw (live), or chosen by select rows; unset as above
#weights = "chosen"
# auto, cpu, cuda or cuda:1
#device = "auto"
# threads of a step, part of what makes two runs equal to the bit; 1 is better on a host that is always crowded
#num_threads = 2
# of every random draw
#seed = 0
"""

TASK = """
# Tasks that are declared when a stream is first joined; later ones with `mtld task add`.
#[[task]]
#name = "mood"
#modality = "text"
#kind = "classification"
"""

EXAMPLES = {  # of settings that are unset by default
    "state_dir": "~/.local/state/mtld",
    "redis_url": "redis://127.0.0.1:6379/0",
    "password_file": "/etc/mtld/redis-password",
    "reference_root": "/srv/mtld/data",
    "salt": "any text that nobody else knows",
    "webhook": "https://127.0.0.1:8443/promoted",
    "secret_file": "/etc/mtld/hook-secret",
}
COMMENT_WIDTH = 100


@verb()
def init(
    call: Call,
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("mtld.toml"),
    dry_run: DryRun = False,
) -> None:
    """Write a settings file to start from: every setting, what it means, and its default. Overwrites nothing.

    A daemon needs no such file: without one the defaults hold.
    """
    text = "".join(f"{line}\n" for line in template()).replace("\n\n\n", "\n\n")
    if dry_run:
        call.show({"file": str(file), "written": False, "text": text}, text.splitlines)
        return
    try:
        with file.open("x", encoding="utf-8") as made:
            made.write(text)
    except FileExistsError:
        raise Refused(f"{file} exists; name another file, or look at --dry-run") from None
    except OSError as error:
        raise DaemonError(f"{file} cannot be written: {error.strerror}") from None
    then = f"edit it, then `mtld config check -c {file}` and `mtld run -c {file}`"
    call.show({"file": str(file), "written": True, "text": text}, lambda: [f"wrote {file}", then])


def template() -> Iterator[str]:
    """The lines of the file; as it is it sets nothing."""
    yield HEAD
    yield from _commented(Config)
    yield ENGINE
    for one in fields(Config):
        kind = one.default_factory
        if isinstance(kind, type) and is_dataclass(kind):
            yield f"\n[{one.name}]"
            yield from _commented(kind)
    yield TASK


def _commented(kind: type[Any]) -> Iterator[str]:
    told = meanings(kind)
    for one in fields(kind):
        if not is_dataclass(one.default_factory) and one.name not in {"engine", "tasks"}:
            yield from wrap(
                told[one.name], COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# "
            )
            yield f"#{next(toml({one.name: _default(one)}))}"


def _default(one: Field[Any]) -> object:
    if one.default_factory is not MISSING:
        return one.default_factory()
    unset = one.default is MISSING or one.default is None
    return EXAMPLES.get(one.name, "...") if unset else one.default


def meanings(kind: type[Any]) -> dict[str, str]:
    """What the source of a settings class says of each field: the comment above it or beside it."""
    found, above = dict[str, str](), list[str]()
    for line in inspect.getsource(kind).splitlines():
        field = re.match(r" {4}(\w+): ", line)
        if line.startswith("    # "):
            above.append(line.strip("# "))
        elif field:
            found[field[1]] = " ".join([*above, line.partition("  # ")[2]]).strip()
            above.clear()
    return found
