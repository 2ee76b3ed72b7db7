"""The salt that keeps secret which rows are held out: made at the first start, before anything is read, and kept for ever."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from daemon.durable import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

NAME = "salt"
BYTES = 32


def salt(state_dir: Path, configured: str | None) -> str:
    """The configured salt, or that of the state directory, which is durable once this returns.

    It counts for a state that begins; one that is recovered from a checkpoint goes on with the salt in it.
    """
    if configured is not None:
        return configured
    path = state_dir / NAME
    if not path.exists():
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with os.fdopen(
            os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w"
        ) as file:
            file.write(secrets.token_hex(BYTES))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(state_dir)
    return path.read_text(encoding="utf-8").strip()
