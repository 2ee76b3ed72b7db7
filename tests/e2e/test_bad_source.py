"""One of two sources sends wrong labels: every view names task and source, and after the remedy all of it clears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.integration.test_addresses import free_port
from tests.support.scraping import prometheus
from tests.support.site import Site
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.types import Json

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(120)]

SETTINGS = "[evaluate]\nevery_s = 5\n"  # the others are as they come
EVENT_ROWS, CLASSES, COLUMNS = 32, 5, 12
GOOD_ROWS, BAD_ROWS = 4000, 4000  # of each source
DEGRADED = 5  # exit code
FELL, SUSPECT = ('mtld_fallen{task="parts"}', 'mtld_suspect_source{source="cam-b",task="parts"}')


class Line(Site):
    """A daemon with two sources of one task."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SETTINGS)
        self.start()
        self.cams = [self.producer(name) for name in ("cam-a", "cam-b")]
        self.cams[0].add_task("parts", modality="table")
        self._draw = np.random.Generator(np.random.PCG64(3))
        self._middle_CD = self._draw.standard_normal((CLASSES, COLUMNS)) * 1.5

    def push(self, rows: int, *, bad: bool = False, only: int | None = None) -> list[str]:
        """So many rows of each source in turn; `bad`: the labels of cam-b are permuted. Entries of cam-b."""
        ids: list[str] = []
        for _ in range(rows // EVENT_ROWS):
            for number, cam in enumerate(self.cams):
                if only not in (None, number):
                    continue
                y = self._draw.integers(0, CLASSES, EVENT_ROWS)
                x = self._middle_CD[y] + self._draw.standard_normal((EVENT_ROWS, COLUMNS))
                told = (y + 1) % CLASSES if bad and number else y
                entry = cam.push("parts", x.astype(np.float32), told).entry_id
                ids += [entry] if number else []
        self.wait_caught_up()
        return ids

    def evaluations(self, num: int) -> None:
        """Wait for as many as `num` more that the schedule asks for, or until there is nothing new to score."""
        for _ in range(num):
            before = self._evaluated()
            told = self.daemon.vitals()
            if told is not None and told.step == before:
                return
            wait_until(lambda before=before: self._evaluated() != before, 30.0, "an evaluation")

    def _evaluated(self) -> int:
        told = self.daemon.vitals()
        return 0 if told is None else int(told.evaluation.get("step", 0))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Line]:
    with Line(tmp_path) as made:
        yield made


def test_a_bad_source_is_named_everywhere_and_clears(site: Line, tmp_path: Path) -> None:
    site.push(GOOD_ROWS)
    site.evaluations(2)
    assert site.mtld("status", "--check")[0] == 0, site.mtld("status")
    site.daemon.ask("checkpoint")
    (before, *_) = site.told("checkpoint", "list")
    ids = site.push(BAD_ROWS, bad=True)
    site.evaluations(2)
    _is_told_everywhere(site)
    port = int(site.sidecar.url.rpartition(":")[2])
    with prometheus(tmp_path, port, free_port()) as watcher:
        wait_until(lambda: _firing(watcher), 20.0, "the alert")
        (alert,) = _firing(watcher)
        assert (alert["task"], alert["source"]) == ("parts", "cam-b")
        skip = f"{ids[0]}..{ids[-1]}"
        number = str(before["seq"])
        code, told = site.mtld("rollback", number, "--skip", skip, "--confirm", number)
        assert code == 0, told
        site.push(GOOD_ROWS // 4, only=0)
        site.evaluations(2)
        _is_told_nowhere(site)
        wait_until(lambda: not _firing(watcher), 20.0, "the alert to clear")


def _is_told_everywhere(site: Line) -> None:
    (fall,) = site.status()["guard"]["fallen"].values()
    assert (fall["task"], fall["sources"]) == ("parts", ["cam-b"]), fall
    code, told = site.mtld("status", "--check")
    assert code == DEGRADED, told
    assert "parts fell from" in told, told
    assert "labels of source cam-b look wrong" in " ".join(told.split()), told
    (fall,) = site.sidecar.json("/api/status")["guard"]["fallen"].values()
    assert (fall["task"], fall["sources"]) == ("parts", ["cam-b"])
    metrics = site.metrics()
    assert (metrics[FELL], metrics[SUSPECT]) == (1.0, 1.0), metrics


def _is_told_nowhere(site: Line) -> None:
    code, told = site.mtld("status", "--check")
    assert code == 0, told
    assert site.status()["guard"]["fallen"] == {}
    metrics = site.metrics()
    assert metrics[FELL] == 0.0
    assert not metrics.get(SUSPECT)


def _firing(watcher: Any) -> list[Json]:
    found = watcher.query('ALERTS{alertname="MtldTaskFell",alertstate="firing"}')
    return [one["metric"] for one in found]
