"""Builds a part from a name, a mapping with a name and arguments, or a class path; a constructor is its config."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from mtl_engine.errors import EngineError
from mtl_engine.names import unknown
from mtl_engine.types import Json

Spec = str | Mapping[str, Any]
Table = Mapping[str, str | Json]
"""Name -> "package.module:Class", or a mapping that names another entry with arguments."""


def normalised(table: Table, spec: Spec, what: str) -> tuple[str, Json]:
    """The class path and the arguments that `spec` means."""
    if isinstance(spec, str):
        spec = {"name": spec}
    arguments = dict(spec)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise EngineError(
            f"{what} {dict(spec)!r} has no name: allowed are {', '.join(sorted(table))}"
        )
    if name not in table:
        if ":" in name:
            return name, arguments
        raise EngineError(unknown(what, name, table))
    entry = table[name]
    if isinstance(entry, str):
        return entry, arguments
    return normalised(table, {**entry, **arguments}, what)


def build(table: Table, spec: Spec, what: str, /, **given: Any) -> Any:
    """An instance of what `spec` names; `given` are arguments that the engine, not the user, provides."""
    path, arguments = normalised(table, spec, what)
    made = load(path, what)
    allowed = _parameters(made) - set(given)
    for key in arguments:
        if key not in allowed:
            raise EngineError(
                unknown(f"argument of {what} {path.rpartition(':')[2]}", key, allowed)
            )
    try:
        return made(**given, **arguments)
    except TypeError as error:
        raise EngineError(
            f"{what} {path}: {error}; its arguments are {', '.join(sorted(allowed)) or 'none'}"
        ) from error


def load(path: str, what: str) -> Any:
    """The class at "package.module:Class"."""
    module, _, name = path.partition(":")
    try:
        return vars(importlib.import_module(module))[name]
    except (ImportError, KeyError) as error:
        raise EngineError(
            f"{what} {path!r} cannot be imported ({error}): give a known name or 'package.module:Class'"
        ) from error


def _parameters(made: Any) -> set[str]:
    return {
        p.name
        for p in inspect.signature(made).parameters.values()
        if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
