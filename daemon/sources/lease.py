"""The lease that makes one process the only writer beside a log: what its value says and who may take it."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.errors import IntegrityError

POLL_S = 0.2  # how often a waiting starter looks whether the holder is gone


@dataclass(frozen=True, slots=True)
class Lease:
    """`token:uuid:nonce`: a number that only grows, the state directory, and one start of the process.

    A released lease keeps its token and has neither uuid nor nonce, so tokens go on growing.
    """

    token: int
    uuid: str = ""
    nonce: str = ""

    def __str__(self) -> str:
        return f"{self.token}:{self.uuid}:{self.nonce}"

    @classmethod
    def parse(cls, value: bytes | None) -> Lease | None:
        """The lease in a stored value, None where there is none."""
        if value is None:
            return None
        parts = value.decode("utf-8", "replace").split(":")
        if len(parts) != 3 or not parts[0].isdigit():
            msg = f"the lease key holds {value[:80]!r}, which is not token:uuid:nonce; delete it if no daemon uses it"
            raise IntegrityError(msg)
        return cls(int(parts[0]), parts[1], parts[2])

    def is_free_for(self, uuid: str) -> bool:
        """Whether a starter with this state directory may take it at once (its flock proves the old one is gone)."""
        return self.uuid in ("", uuid)
