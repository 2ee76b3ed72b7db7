"""What operators decided about snapshots, beside them in one small file: pins, and whose choice the champion is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from daemon import finite
from daemon.durable import sync_directory
from daemon.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.types import Json

DECISIONS = "decisions.json"


def decided(models: Path) -> Json:
    """What operators decided: which snapshots are pinned, and up to which version the champion is theirs to choose."""
    try:
        found: object = finite.loads((models / DECISIONS).read_bytes())
    except FileNotFoundError:
        return {"pins": [], "up_to": 0}
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{models / DECISIONS} cannot be read: {error}") from None
    if not isinstance(found, dict) or not {"pins", "up_to"} <= cast("Json", found).keys():
        raise IntegrityError(
            f"{models / DECISIONS} does not hold pins and up_to; restore or remove it"
        )
    return cast("Json", found)


def decide(models: Path, **changes: Any) -> None:
    """Change what is named; the caller holds the lock of the snapshots."""
    temporary = models / f".{DECISIONS}.{os.getpid()}"
    temporary.write_text(finite.dumps({**decided(models), **changes}))
    temporary.replace(models / DECISIONS)
    sync_directory(models)
