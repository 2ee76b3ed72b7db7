"""Histories of a task whose rule changes: what the gate lets through, what it refuses however long it takes, and its ways out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.types import Json

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

EVENT_ROWS, CLASSES, COLUMNS = 32, 4, 8
READ_S = 120.0


class Gated(Site):
    """A daemon with default settings and a producer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.start()
        self._producer = self.producer("cam-a")
        self._draw = np.random.Generator(np.random.PCG64(3))
        self._middle: dict[str, Any] = {}

    def add(self, task: str) -> None:
        self._producer.add_task(task, modality="table")
        self._middle[task] = self._draw.standard_normal((CLASSES, COLUMNS)) * 1.6

    def push(self, events: int, task: str = "parts", *, rule: int = 0) -> None:
        """So many events whose labels follow this rule, and wait until they are learned."""
        for _ in range(events):
            y = self._draw.integers(0, CLASSES, EVENT_ROWS)
            x = self._middle[task][y] + self._draw.standard_normal((EVENT_ROWS, COLUMNS))
            self._producer.push(task, x.astype(np.float32), (y + rule) % CLASSES)
        self.wait_caught_up(READ_S)

    def publish(self) -> Json:
        """The verdict on the model as it is now."""
        self.does("snapshot", "publish")
        verdict = self.told("snapshot", "show", "latest")["verdict"]
        assert all((task["best"] or 0.0) <= 1.0 for task in verdict["tasks"].values()), verdict
        return verdict


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Gated]:
    with Gated(tmp_path) as made:
        made.add("parts")
        yield made


def test_a_change_that_few_rows_saw_is_let_through_and_listed_and_nothing_is_stuck(
    site: Gated,
) -> None:
    site.push(10)
    site.publish()
    site.push(80, rule=1)
    verdict = site.publish()
    assert (verdict["decision"], verdict["not_judged"]) == ("promoted", ["parts"])
    assert "promoted  0 of 1" in site.does("snapshot", "list")
    for _ in range(3):
        assert site.publish()["decision"] == "promoted", "the champion's own weights"
        site.push(20, rule=1)
        assert site.publish()["decision"] == "promoted", "better ones"


def test_a_champion_by_hand_starts_anew(site: Gated) -> None:
    site.push(120)
    site.publish()
    site.push(160, rule=1)
    assert site.publish()["decision"] == "refused"
    site.does("snapshot", "promote", "latest", "--force", "--confirm", "v000002")
    for _ in range(3):
        assert site.publish()["decision"] == "promoted", "the same quality"
        site.push(5, rule=1)


def test_a_bad_model_is_not_promoted_by_waiting_but_by_accepting_it(site: Gated) -> None:
    site.add("bolts")
    for task in ("parts", "bolts"):
        site.push(40, task)
    site.publish()
    site.push(20)
    assert site.publish()["decision"] == "promoted"
    for _ in range(3):
        site.push(200, rule=1)
        verdict = site.publish()
        assert verdict["decision"] == "refused", "60 events became champion, 600 others came"
        assert not verdict["tasks"]["parts"]["is_within"]
    site.push(150, "bolts", rule=1)
    site.does("task", "accept", "parts")
    site.push(2, rule=1)
    verdict = site.publish()
    assert (verdict["decision"], verdict["tasks"]["parts"]["is_within"]) == ("refused", True)
    assert "bolts" in verdict["reason"], "only the task that was named is let through"
    site.does("task", "accept", "bolts")
    site.push(2, rule=1)
    assert site.publish()["decision"] == "promoted"
