"""Builds frozen dataclasses from tables of settings, and refuses every name, type and value that does not fit."""

from __future__ import annotations

from dataclasses import MISSING, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from daemon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daemon.types import Json

T = TypeVar("T")


def setting(
    default: T, low: float | None = None, high: float | None = None, one_of: tuple[T, ...] = ()
) -> T:
    """A field with a default and the values it may take, both ends included."""
    return field(default=default, metadata={"low": low, "high": high, "one_of": one_of})


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an unknown-name message: the nearest name where one is near, else all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"


def build(kind: type[Any], table: Json, where: str) -> object:
    """An instance of the dataclass `kind` from a table; ConfigError for an unknown name, a wrong type or range."""
    refuse_unknown(table, [one.name for one in fields(kind)], where)
    hints, built = get_type_hints(kind), dict[str, Any]()
    for one in fields(kind):
        name = f"{where}.{one.name}" if where else one.name
        if one.name in table:
            built[one.name] = _typed(table[one.name], hints[one.name], name)
            _in_range(built[one.name], one.metadata, name)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise ConfigError(f"{name} is missing")
    return kind(**built)


def _typed(value: object, hint: Any, name: str) -> object:
    allowed: tuple[Any, ...] = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} is {value!r}; write it as a [{name}] table")
        return build(hint, cast("Json", value), name)
    if Path in allowed and isinstance(value, str | Path):
        return Path(value).expanduser()
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = tuple(get_origin(one) or one for one in allowed)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        wanted = " or ".join(one.__name__ for one in plain if one is not type(None))
        raise ConfigError(f"{name} is {value!r} ({type(value).__name__}); it must be {wanted}")
    return cast("object", value)


def _in_range(value: Any, metadata: Mapping[str, Any], name: str) -> None:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return
    if isinstance(value, str):
        one_of = metadata.get("one_of", ())
        if one_of and value not in one_of:
            raise ConfigError(
                f"{name} is {value!r}; {nearest(value, one_of)} (allowed: {', '.join(one_of)})"
            )
        return
    low, high = metadata.get("low", 1), metadata.get("high")  # without a range, at least 1
    if not ((low is None or value >= low) and (high is None or value <= high)):  # also refuses NaN
        raise ConfigError(
            f"{name} is {value}; allowed is {low} to {'any' if high is None else high}"
        )


def refuse_unknown(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """ConfigError for the first key that is not known; `where` is the table's name, empty at the top."""
    names = set(known)
    for key in table:
        if key not in names:
            place = f"{where}.{key}" if where else key
            raise ConfigError(f"unknown setting {place!r}: {nearest(key, names)}")


def jsonable(value: object) -> object:
    """Settings as JSON."""
    if isinstance(value, dict):
        return {str(key): jsonable(one) for key, one in cast("Json", value).items()}
    if isinstance(value, list):
        return [jsonable(one) for one in cast("list[Any]", value)]
    return str(value) if isinstance(value, Path) else value
