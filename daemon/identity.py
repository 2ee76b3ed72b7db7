"""Who an event is: the key that de-duplication and the anchor check compare.

Key = 16 bytes that name the event (source, id, hop) + 16 bytes that digest what it says. The same name with
another digest is `id_reused`. Both are the first half of SHA-256, which processors compute in hardware.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.types import Entry

FIRST_ID = "0-0"  # before every entry
LAST_POSSIBLE_ID = "18446744073709551615-18446744073709551615"  # after it a stream takes no entry
_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
NAME_BYTES = 16
KEY_BYTES = 32
_SAID = (
    b"type",
    b"subject",
    b"datacontenttype",
    b"data",
)  # what makes two events with one id different


def event_key(entry: Entry) -> bytes:
    """The 32-byte key of an entry; one without `id` or `source` is named by its place in the log."""
    fields = entry.fields
    if b"id" in fields and b"source" in fields:
        name = _digest((fields[b"source"], fields[b"id"], fields.get(b"mtlhop", b"0")))
    else:
        name = _digest((entry.id.encode(),))
    return name + _digest(tuple(fields.get(field, b"") for field in _SAID))


def control_id(epoch: int, watermark: str, kind: str) -> str:
    """The id of a decision: the same decision at the same place is one event, however often it is sent."""
    return _digest((str(epoch).encode(), watermark.encode(), kind.encode())).hex()


def _digest(parts: tuple[bytes, ...]) -> bytes:
    *small, last = parts  # the last one may be large and is not copied
    # Lengths keep ("ab", "c") apart from ("a", "bc").
    told = b"".join([len(part).to_bytes(8, "little") + part for part in small])
    hasher = sha256(told + len(last).to_bytes(8, "little"))
    hasher.update(last)
    return hasher.digest()[:NAME_BYTES]


def id_tuple(entry_id: str) -> tuple[int, int]:
    """A stream id as numbers, in log order."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq or 0)


def is_id(text: str) -> bool:
    """Whether it has the form of a stream id, `ms-seq`."""
    return _ID.fullmatch(text) is not None


def text_fields(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """All fields but the payload, readable, for dead letters and `tail`."""
    return {
        k.decode("utf-8", "replace"): v.decode("utf-8", "replace")
        for k, v in fields.items()
        if k != b"data"
    }
