"""How a benchmark ends: one JSON line, and with --save the same under benchmarks/results/."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def finish(name: str, figures: dict[str, Any], save: bool) -> None:
    """Print the figures with what a reader needs to repeat them; write them down if asked."""
    line = described(name, figures)
    print(json.dumps(line))
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(line, indent=1) + "\n")


def described(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures with the command, the commit, the date and the versions that they are of."""
    return {
        "benchmark": name,
        **figures,
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "git": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _commit() -> str:
    """The commit, `-dirty` where anything but results differs from it: a run that saves makes the next one no less clean."""
    found = _git("describe", "--always").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ":(top,exclude)benchmarks/results").returncode
    return f"{found}{'-dirty' if changed else ''}" if found else "unknown"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False)
