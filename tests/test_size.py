"""The packages stay within their budget of lines: docs/adr/0014-size.md."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def lines(*files: Path) -> int:
    return sum(path.read_text(encoding="utf-8").count("\n") for path in files)


@pytest.mark.parametrize(
    ("part", "patterns", "budget"),
    [
        ("engine", ["mtl_engine/**/*.py", "mtld/*.py"], 11_500),
        ("daemon", ["daemon/*.py"], 9_200),
        ("command line", ["daemon/commands/**/*.py"], 4_900),
        ("families, page and demo", ["daemon/[!c]*/**/*.py"], 5_200),
    ],
)
def test_each_part_stays_within_its_budget(part: str, patterns: list[str], budget: int) -> None:
    found = lines(*{path for pattern in patterns for path in ROOT.glob(pattern)})
    assert found > budget // 2, f"{part}: nothing was counted"
    assert found <= budget, f"{part} has {found} lines, its budget is {budget}"
