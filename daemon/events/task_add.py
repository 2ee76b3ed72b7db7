"""A task nobody declared at start: `mtl.task.add.v1`, the data is its specification."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from daemon.encodings.lists import MAX_LABEL_BYTES
from daemon.encodings.names import shown
from daemon.errors import BadEvent
from daemon.events.document import document, required_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.types import Envelope, Json, Limits, Machine

MAX_LABEL = 2**31 - 1
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class TaskAdd:
    """A task specification under the subject's name; which keys and ranges it may have is the engine's to say."""

    envelope: Envelope
    spec: Json

    @classmethod
    def parse(cls, envelope: Envelope, limits: Limits) -> Self:
        """A `name` in the data is allowed when it repeats the subject; lists hold what lists may hold."""
        name = required_subject(envelope)
        spec = document(envelope, limits)
        if spec.get("name", name) != name:
            raise BadEvent(
                "name_mismatch",
                f"name {shown(spec['name'])} beside the subject {name}: leave it out",
            )
        for key, (is_right, allowed) in _FORMS.items():
            if key in spec and not is_right(spec[key]):
                raise BadEvent("bad_task", f"{key} of {name} is {shown(spec[key])}: send {allowed}")
        return cls(envelope, {**spec, "name": name})

    def apply(self, machine: Machine) -> None:
        """Add the task."""
        machine.add_task(self.spec)


def _is_labels(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_label, cast("list[Any]", value)))


def _is_label(value: Any) -> bool:
    if isinstance(value, str):
        return len(value.encode()) <= MAX_LABEL_BYTES
    return type(value) is int and 0 <= value <= MAX_LABEL


def _is_sizes(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and {*map(type, cast("list[Any]", value))} <= {int}


def _is_built_in(value: Any) -> bool:
    """A plain name, alone or in an object. With `pkg.mod:Class` whoever may XADD could import code here."""
    if value is None:
        return True
    name = cast("Json", value).get("name") if isinstance(value, dict) else value
    return isinstance(name, str) and _WORD.fullmatch(name) is not None


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "classes": (_is_labels, "a list of ints or of strings"),
    "input_shape": (_is_sizes, "a list of sizes, or null"),
    "encoder": (
        _is_built_in,
        "the name of a built-in encoder; other classes are set in the daemon's settings",
    ),
}
