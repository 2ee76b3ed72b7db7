"""`mtld config`: what a settings file amounts to, and whether a daemon would start with it."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from daemon.commands.shared import Call, verb
from daemon.config import Config, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json

app = typer.Typer(
    help="Show or check a settings file.", no_args_is_help=True, rich_markup_mode=None
)

File = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="MTLD_CONFIG", help="Settings, TOML (default: none)."),
]


@app.command()
@verb()
def show(call: Call, config: File = None) -> None:
    """Print every setting in effect, defaults included, as the TOML that would set it; but no secret."""
    settings = load(config, {"state_dir": call.state}).to_dict()
    call.show(_spelled(settings), lambda: list(_without_secrets(settings)))


@app.command()
@verb()
def check(call: Call, config: File = None) -> None:
    """Exit 0 if a daemon would accept these settings, else 2 and one line that says what to change.

    The values inside [engine], [strategy] and the like are checked by the engine itself when it is built; here only
    their names are.
    """
    settings: Config = load(config, {"state_dir": call.state})
    found = {
        "ok": True,
        "config": str(config) if config else None,
        "state_dir": str(settings.state_dir),
    }
    call.show(found, lambda: [f"ok: {config or 'the defaults'}, state in {settings.state_dir}"])


def _without_secrets(settings: Json) -> Iterator[str]:
    """The TOML without the salt; what stands in its place must not be taken for one."""
    if settings["holdout"]["salt"] is not None:
        yield "# [holdout] salt is set; it is a secret and not shown"
    yield from toml({**settings, "holdout": {**settings["holdout"], "salt": None}})


def toml(table: Json, name: str = "") -> Iterator[str]:
    """The lines of a table: values first, then tables, as TOML wants it; what is not set is left out."""
    values = {
        key: value for key, value in table.items() if not isinstance(value, dict) and key != "tasks"
    }
    for key, value in values.items():
        if value is not None:
            yield f"{key} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict) and value:
            inner = f"{name}.{key}" if name else key
            yield ""
            yield f"[{inner}]"
            yield from toml(cast("Json", value), inner)
    for task in table.get("tasks", []):
        yield ""
        yield "[[task]]"
        yield from toml(task)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in cast('list[object]', value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)


def _spelled(value: object) -> object:
    """The same with inf and nan, for which JSON has no word, as TOML spells them."""
    if isinstance(value, dict):
        return {key: _spelled(one) for key, one in cast("Json", value).items()}
    if isinstance(value, list | tuple):
        return [_spelled(one) for one in cast("list[object]", value)]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
