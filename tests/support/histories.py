"""Random histories of a gate, and what no verdict in them may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.config import Gate
from daemon.gate import judge
from tests.support.gatekeeping import KEPT, TOLERANCE, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.gate import Candidate
    from daemon.types import Json
    from mtl_engine.paired import Paired

MIN_ROWS = Gate().min_rows
EVENTS = 12  # of one history
Z = 1.6449


def is_worse(paired: Paired) -> bool:
    """Beyond the tolerance by the paired interval, whose lower end is computed here once more."""
    return paired.loss - Z * paired.spread > TOLERANCE


def faults_of(verdict: Json, world: World, accepted: set[str]) -> list[str]:
    """What is wrong with a verdict, given who met whom."""
    met, bests = (
        {
            name: paired
            for name, paired in named.items()
            if paired.rows >= MIN_ROWS and name in world.quality and name not in accepted
        }
        for named in (world.met, world.met_best)
    )
    is_promoted = verdict["decision"] == "promoted"
    told: list[str] = []
    if is_promoted and any(map(is_worse, [*met.values(), *bests.values()])):
        told.append("a worse one became champion")
    is_below = any(paired.loss > 0 for paired in [*met.values(), *bests.values()])
    if not is_promoted and not is_below and any(paired.loss < 0 for paired in met.values()):
        told.append("a better one did not become champion")
    bests_told = [task["best"] for task in verdict["tasks"].values() if task["best"] is not None]
    if any(best > 1.0 + 1e-9 for best in bests_told):
        told.append("a best is above the highest score")
    return told


def play(seed: int, decide: Callable[[Candidate, Gate], Json] = judge) -> list[str]:
    """One random history; what went wrong in it."""
    world = World(seed, decide)
    draw = world.draw
    for number in range(int(draw.integers(1, 4))):
        _new_task(world, f"t{number}")
    found: list[str] = []
    accepted: set[str] = set()
    for event in range(EVENTS):
        _happen(world, f"n{event}", accepted)
        before = world.champions[-1:]
        found += faults_of(world.publish(), world, accepted)
        if world.champions[-1:] != before:
            accepted.clear()
    return found


def _new_task(world: World, name: str) -> None:
    world.add_task(name, float(world.draw.uniform(0.3, 0.97)))
    world.stream(name, int(world.draw.integers(1, 400)))


def _happen(world: World, fresh: str, accepted: set[str]) -> None:
    """A fall, a gain, a small loss, a stretch of the stream, an operator's decision, a task that comes or goes."""
    draw = world.draw
    name = str(draw.choice(list(world.quality)))
    events: list[Callable[[], object]] = [
        lambda: world.move(name, world.quality[name] * float(draw.uniform(0.3, 0.95))),
        lambda: world.move(name, world.quality[name] * float(draw.uniform(1.0, 1.3))),
        lambda: world.move(name, world.quality[name] - float(draw.uniform(0.0, 0.01))),
        lambda: world.stream(name, int(draw.integers(1, 100))),
        lambda: world.stream(name, 100 * KEPT),
        lambda: world.force() if world.version else None,
        lambda: _new_task(world, fresh) if len(world.quality) < 5 else None,
        lambda: world.retire(name) if len(world.quality) > 1 else None,
        lambda: (world.accept(name), accepted.add(name)),
        lambda: None,
    ]
    events[int(draw.integers(len(events)))]()
