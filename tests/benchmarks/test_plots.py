"""The plots are of recorded results, and the same results give the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def entry(name: str, drop: float) -> dict[str, Any]:
    curve = {
        "step": [5, 10, 15, 20],
        "accuracy": [[50, None], [90, None], [90 - drop, 70], [80, 95]],
        "ends": [10, 20],
    }
    return {
        "strategy": name,
        "curve": curve,
        "min_acc": 90 - drop,
        "new_acc": 92.5,
        "old_acc": 80.0,
    }


def test_the_same_results_give_the_same_file(tmp_path: Path) -> None:
    import matplotlib as mpl
    import plots

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mtld"
    entries = {name: entry(name, drop) for name, drop in (("plain_er", 40), ("default", 10))}
    for number in ("1", "2"):
        plots.stability_gap(entries, tmp_path / f"gap{number}.svg")
        plots.frontier(entries, tmp_path / f"frontier{number}.svg")
    for name in ("gap", "frontier"):
        assert (tmp_path / f"{name}1.svg").read_bytes() == (tmp_path / f"{name}2.svg").read_bytes()
    assert "min-ACC 50.0" in (tmp_path / "gap1.svg").read_text(encoding="utf-8")
