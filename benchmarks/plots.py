"""Draws docs/images/stability_gap.svg and frontier.svg from recorded results alone; nothing is measured here.

The first shows the accuracy of every phase of W1 over the steps, for plain replay and the default strategy: the fall after a
switch is the stability gap (De Lange et al. 2023, arXiv 2205.13452). The second shows what the methods reach on the phases
before the last, against what they reach on a phase when it has just been learned. Needs matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import results
from matplotlib import pyplot

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WORKLOAD = "W1"
KEPT = 50.0  # percent; what is below, as fine-tuning, would press all others into a line
AROUND = (6, 4), (-6, -10), (6, -10), (-6, 4)  # a point, where its name may stand
GAP = ("plain_er", "default")  # methods of the first plot, left to right


def stability_gap(entries: dict[str, dict[str, Any]], path: Path) -> None:
    """A panel for each of the two methods, a line for each phase, a dotted line at each switch."""
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for panel, name in zip(panels, GAP, strict=True):
        entry = entries[name]
        curve = entry["curve"]
        for k in range(len(curve["ends"])):
            begun = [(s, a[k]) for s, a in zip(curve["step"], curve["accuracy"], strict=True)]
            points = [(s, a) for s, a in begun if a is not None]
            panel.plot(*zip(*points, strict=True), linewidth=1.4, label=f"phase {k + 1}")
        for end in curve["ends"][:-1]:
            panel.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
        panel.set_title(f"{name}: min-ACC {entry['min_acc']:.1f}", fontsize=10)
        panel.set_xlabel("step")
    panels[0].set_ylabel("accuracy, %")
    panels[0].set_ylim(0, 101)
    panels[0].legend(fontsize=8, loc="lower left")
    _write(figure, path)


def frontier(entries: dict[str, dict[str, Any]], path: Path) -> None:
    """A point for every method that has phases and keeps something of them; up and to the right is better."""
    figure, panel = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    kept = [one for one in entries.values() if (one["old_acc"] or 0.0) > KEPT]
    for number, entry in enumerate(sorted(kept, key=lambda one: one["new_acc"])):
        name, point = entry["strategy"], (entry["new_acc"], entry["old_acc"])
        panel.plot(*point, "o", color="C3" if name == "default" else "C0", markersize=5)
        place = 3 if name == "default" else number % 4  # neighbours' names in different directions
        panel.annotate(
            name, point, xytext=AROUND[place], textcoords="offset points", fontsize=8,
            ha="right" if place % 2 else "left",
        )  # fmt: skip
    panel.margins(x=0.18, y=0.1)
    panel.set_xlabel("new: accuracy on a phase when it ends, %")
    panel.set_ylabel("old: accuracy on earlier phases at the end, %")
    panel.grid(linewidth=0.3)
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    """The same results give the same file: no date, no random identifiers; on one line, as nobody reads it."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    text = path.read_text(encoding="utf-8")
    path.write_text(" ".join(map(str.strip, text.splitlines())) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def main() -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mtld"
    entries = {one["strategy"]: one for one in results.read() if one["workload"] == WORKLOAD}
    absent = [name for name in GAP if name not in entries]
    if absent:
        raise SystemExit(
            f"{results.FILE} has no {WORKLOAD} of {', '.join(absent)}: run continual.py --save first"
        )
    stability_gap(entries, IMAGES / "stability_gap.svg")
    frontier(entries, IMAGES / "frontier.svg")


if __name__ == "__main__":
    main()
