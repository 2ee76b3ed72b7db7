"""The guard that rolls back: to before the switch after which a task fell, without what came since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.config import GuardSettings, Stream
from daemon.identity import id_tuple
from daemon.sources.memory import MemoryLog
from tests.support.core import (
    ask,
    eager,
    fields,
    flip_bit,
    loop,
    play,
)
from tests.support.spoilt import good, settings, spoilt, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daemon.loop import Loop
    from tests.support.core import Script


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def log() -> MemoryLog:
    return started()


def guarded(one: Loop, log: MemoryLog, steps: list[int], before: Callable[[], None]) -> Script:
    """A good phase, a switch, spoilt rows, and an evaluation at which the guard acts."""
    log.add(fields("mtl.task.switch.v1", "a", id="s1", data={"phase": "one"}))
    good(log, 0, 60)
    yield None
    steps.append(one.machine.engine.step_count)
    log.add(fields("mtl.task.switch.v1", "a", id="s2", data={"phase": "two"}))
    for number in range(40):
        log.add(spoilt(1000 + 4 * number))
    yield None
    before()
    ask(one, "score")
    yield lambda: one.process.epoch == 2
    yield None


GUARDED = {
    "guard": GuardSettings(action="rollback", min_rows=1),
    "stream": Stream(batch_size=4, linger_s=60.0),
}


def test_the_guard_goes_back_to_before_the_switch_and_leaves_out_what_came_since(
    tmp_path: Path, log: MemoryLog
) -> None:
    one = loop(settings(tmp_path, **GUARDED), log)
    steps: list[int] = []
    play(one, guarded(one, log, steps, lambda: None))
    assert one.machine.engine.step_count == steps[0]
    assert one.machine.engine.focus == ("a", "one")
    assert not one.machine.guard.fallen
    kinds = [line["kind"] for line in log.journal]
    assert kinds.index("guard_fell") < kinds.index("rolled_back")


def test_what_goes_on_coming_after_a_rollback_of_the_guard_is_left_out_too(
    tmp_path: Path, log: MemoryLog
) -> None:
    one = loop(settings(tmp_path, **GUARDED), log)
    steps: list[int] = []

    def script() -> Script:
        yield from guarded(one, log, steps, lambda: None)
        for number in range(40):
            log.add(spoilt(5000 + 4 * number))
        yield None
        ask(one, "score")
        yield lambda: one.process.epoch == 3
        yield None

    play(one, script())
    assert one.machine.engine.step_count == steps[0]
    assert one.machine.engine.focus == ("a", "one")
    assert (
        one.machine.counters.skipped_events == 1 + 40 + 2 + 40 + 2
    )  # an evaluation is two decisions


def test_the_guard_passes_a_damaged_checkpoint_by(tmp_path: Path, log: MemoryLog) -> None:
    log.add(fields("mtl.task.switch.v1", "a", id="s0", data={"phase": "zero"}))
    one = loop(settings(tmp_path, **GUARDED), log)
    store, damaged = one.durability.checkpointer.store, list[int]()

    def damage() -> None:
        since = id_tuple(one.machine.guard.since)
        headers = one.durability.checkpointer.retained()
        damaged.append(max(h["seq"] for h in headers if id_tuple(h["watermark"]) < since))
        flip_bit(store.path(damaged[0]) / "state.safetensors", 4000)

    play(one, guarded(one, log, [], damage))
    assert not one.machine.guard.fallen
    (told,) = [line["detail"] for line in log.journal if line["kind"] == "rolled_back"]
    assert (told["by"], told["seq"]) == ("guard", damaged[0] - 1)
