"""The file of `continual.py`'s results: one entry for a workload and a strategy, one line for an entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report import RESULTS

FILE = RESULTS / "continual.json"


def read(path: Path = FILE) -> list[dict[str, Any]]:
    """All entries, by workload and strategy."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep(entry: dict[str, Any], path: Path = FILE) -> None:
    """Write an entry, in the place of an older one of the same workload and strategy."""
    entries = [one for one in read(path) if _key(one) != _key(entry)]
    lines = ",\n".join(json.dumps(one) for one in sorted([*entries, entry], key=_key))
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["workload"], entry["strategy"]
