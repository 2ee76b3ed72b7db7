"""W6: which section of Debian a package belongs to, from its one line of description: twenty sections, two a phase, one pass.

A line that several packages share is there once. Joint training is the same rows, all shuffled.
"""

from __future__ import annotations

import numpy as np

from mtl_engine.types import TaskSpec
from workloads import sources
from workloads.base import Phase, Workload, parted

SECTIONS = 20  # the largest ones
ROWS = 1000  # of a section at most
TASK = TaskSpec("section", modality="text", max_bytes=128)


def packages(split: str) -> Workload:
    """W6."""
    lines, sha256 = sources.descriptions()
    draw = np.random.default_rng(0)
    largest = sorted(lines, key=lambda section: (-len(lines[section]), section))[:SECTIONS]
    names: list[str] = [largest[k] for k in draw.permutation(len(largest)).tolist()]
    phases = tuple(_phase(split, lines, names[k : k + 2], draw) for k in range(0, len(names), 2))
    return Workload((TASK,), phases, every=50, data={"dumpavail_sha256": sha256})


def _phase(
    split: str, lines: dict[str, list[str]], sections: list[str], draw: np.random.Generator
) -> Phase:
    chosen = {name: draw.permutation(len(lines[name]))[:ROWS] for name in sections}
    x = np.array([lines[name][k] for name in sections for k in chosen[name]], dtype=object)
    y = np.array([name for name in sections for _ in chosen[name]])
    return Phase(" and ".join(sections), TASK.name, *parted(split, x, y))
