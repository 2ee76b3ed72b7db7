"""SIGKILL inside a rollback or a promotion: a restart finds one of the two states, whole, and ends where no death leads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from daemon import releases
from mtl_engine.snapshot import load
from tests.support.compare import Saved, assert_same, differences, saved
from tests.support.daemon_process import ROOT
from tests.support.rolling import Base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rolling import Place

pytestmark = [pytest.mark.chaos, pytest.mark.redis, pytest.mark.timeout(180)]

# Of a rollback. A start shows and trims once itself: the second time is the rollback's.
BEFORE_IT_COUNTS = ("rolled_back", "staged", "written", "renamed")
ONCE_IT_COUNTS = ("current_swapped", "outbox_sent", "displayed:2", "trimmed:2")
WHILE_REPLAYING = ("entered:3", "stepped:4", "switched")
# Of a promotion, one after the other: each restart carries out what the one before was killed in.
PROMOTING = (
    "snapshot_written", "snapshot_renamed:2", "snapshot_aliased:2", "previous_swapped:2", "snapshot_promoted:2",
)  # fmt: skip
AT_ONCE = 3  # daemons; two cores start them faster than one after the other


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of one death."""

    found: Saved  # by a restart
    final: Saved  # once the rollback was done again where it had not counted, and the log was read


@dataclass(frozen=True, slots=True)
class Run:
    """The base, the run without a death, and one for each death."""

    base: Base
    before: Saved
    rolled_back: Saved
    final: Saved
    deaths: dict[str, Future[Ended]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    made = Base(tmp_path_factory.mktemp("rolling"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(base: Base) -> Iterator[Run]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        deaths = {
            name: pool.submit(_die, base, name)
            for name in (*BEFORE_IT_COUNTS, *ONCE_IT_COUNTS, *WHILE_REPLAYING)
        }
        with base.place("uninterrupted") as place:
            place.start()
            place.roll_back()
            rolled_back = saved(place.daemon.state)
            yield Run(base, saved(base.state), rolled_back, place.finish(), deaths)


def _die(base: Base, failpoint: str) -> Ended:
    with base.place(failpoint.replace(":", "-")) as place:
        place.start(failpoint)
        plan: dict[str, Any] = {"seq": base.seq, "skips": [list(base.skip)]}
        place.dies(("rollback", plan), ("resume", {}))
        found = saved(place.daemon.state)
        place.start()
        if found.header["epoch"] == 1:
            place.roll_back()
        return Ended(found, place.finish())


def test_the_two_states_and_the_end_differ_so_comparing_them_says_something(run: Run) -> None:
    assert [one.header["epoch"] for one in (run.before, run.rolled_back, run.final)] == [1, 2, 2]
    assert run.before.header["step"] > run.rolled_back.header["step"] < run.final.header["step"]
    assert run.final.counters["skipped_events"] == 4
    assert run.final.header["watermark"] == run.before.header["watermark"]
    assert any(name.startswith("state:engine/model") for name in _unequal(run.before, run.final))


@pytest.mark.parametrize("failpoint", BEFORE_IT_COUNTS)
def test_a_death_before_the_swap_of_current_leaves_the_old_state(run: Run, failpoint: str) -> None:
    ended = run.deaths[failpoint].result()
    assert ended.found.header["epoch"] == 1
    assert_same(ended.found, run.before)
    assert_same(ended.final, run.final)


@pytest.mark.parametrize("failpoint", ONCE_IT_COUNTS)
def test_a_death_after_it_leaves_the_state_rolled_back(run: Run, failpoint: str) -> None:
    ended = run.deaths[failpoint].result()
    assert ended.found.header["epoch"] == 2
    assert_same(ended.found, run.rolled_back)
    assert_same(ended.final, run.final)


@pytest.mark.parametrize("failpoint", WHILE_REPLAYING)
def test_a_death_during_the_replay_repeats_and_forgets_nothing(run: Run, failpoint: str) -> None:
    ended = run.deaths[failpoint].result()
    assert ended.found.header["epoch"] == 2
    assert_same(ended.final, run.final)


def test_a_death_inside_a_promotion_leaves_a_whole_champion_and_is_made_good(base: Base) -> None:
    champions: list[str] = []
    with base.place("promoting") as place:
        first = _champion(place.models)
        for number, failpoint in enumerate(PROMOTING):
            place.start(failpoint)
            assert _champion(place.models) == f"v{int(first[1:]) + number:06d}", failpoint
            place.dies(("publish", {}))
            champions.append(_champion(place.models))
        place.start()
        final = place.finish()
        served = _served(place.models)
    newest = [f"v{int(first[1:]) + number:06d}" for number in range(len(PROMOTING) + 1)]
    assert champions == [*newest[:4], newest[5]], "only the last death came after the swap"
    with base.place("published") as alone:
        alone.start()
        for _ in PROMOTING:
            alone.daemon.ask("publish")
        assert_same(final, alone.finish())
        assert served == _served(alone.models)


def test_a_death_inside_a_promotion_by_hand_leaves_the_old_champion(base: Base) -> None:
    with base.place("by-hand") as place:
        now, before = _champion(place.models), str(releases.target(place.models, "previous"))
        for failpoint, words in (
            ("previous_swapped", ("promote", before)),
            ("champion_swapped", ("rollback",)),
        ):
            expected = before if failpoint == "champion_swapped" else now
            if failpoint == "champion_swapped":  # there is one to go back to
                _typed(place, "", "promote", before)
                _typed(place, "", "promote", now)
            assert _typed(place, failpoint, *words) == -signal.SIGKILL
            assert _champion(place.models) == expected
        assert _typed(place, "", "promote", now) == 0
        assert _served(place.models)[0] == {"latest": now, "previous": before, "champion": now}


def _typed(place: Place, failpoint: str, *words: str) -> int:
    """`mtld snapshot ...` in a process of its own, without a daemon."""
    environment = {**os.environ, "MTLD_FAILPOINT": failpoint, "MTLD_STATE": str(place.daemon.state)}
    program = "import sys; from daemon.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "snapshot", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _champion(models: Path) -> str:
    """Its name; it has to verify and to load."""
    name = releases.target(models, "champion")
    assert name is not None
    assert releases.problems(models / name) == []
    assert load(models / "champion").manifest["version"] == int(name[1:])
    return name


def _served(models: Path) -> tuple[dict[str, str | None], dict[int, Any]]:
    """What every alias points to, and of every snapshot its files and the gate's verdict."""
    aliases = {name: releases.target(models, name) for name in releases.ALIASES}
    told = {one.version: releases.manifest(one.path) for one in releases.catalogue(models)}
    return aliases, {version: (one["files"], one["verdict"]) for version, one in told.items()}


def _unequal(one: Saved, other: Saved) -> list[str]:
    return [found.partition(": ")[0] for found in differences(one, other)]
