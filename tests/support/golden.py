"""Output compared with a text file of the repository; `GOLDEN=write pytest ...` writes the files anew, to be looked at."""

from __future__ import annotations

import os
from pathlib import Path


def check(path: Path, text: str) -> None:
    """Fail where a text differs from the file, or where there is no file; write the file where that is asked for."""
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: GOLDEN=write writes it"
    assert text == path.read_text(encoding="utf-8"), (
        "if it is meant: GOLDEN=write, and read the diff"
    )
