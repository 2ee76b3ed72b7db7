"""How the payload of a data event may be encoded: one file each, one line in this table.

An encoding is a function `(data, subject, limits) -> Payload` that raises nothing but BadEvent and
holds no state. What needs knowledge of the task (its shape, its vocabulary) is the engine's to check.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.types import Limits, Payload

ENCODINGS = {
    "application/vnd.safetensors": "daemon.encodings.safetensors:decode",
    "application/json": "daemon.encodings.json:decode",
    "application/vnd.mtl.ref+json": "daemon.encodings.reference:decode",
}


class Decode(Protocol):
    """What every line of the table names."""

    def __call__(self, data: bytes, subject: str | None, limits: Limits) -> Payload: ...


def decode(content_type: str, data: bytes, subject: str | None, limits: Limits) -> Payload:
    """The payload of a data event, by its content type."""
    return _decoder(content_type)(data, subject, limits)


def _decoder(content_type: str) -> Decode:
    where = ENCODINGS.get(content_type)
    if where is None:
        raise BadEvent(
            "unknown_content_type",
            f"datacontenttype is {shown(content_type)}; allowed are {', '.join(ENCODINGS)}",
        )
    return _load(where)


@cache
def _load(where: str) -> Decode:
    module, _, name = where.partition(":")
    return cast("Decode", vars(import_module(module))[name])
