"""A long tail of classes: its worst class is on the first screen, and a majority that is the answer to all turns it red."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mtld import Producer
from tests.support.daemon_process import ROOT, DaemonProcess
from tests.support.servers import NAMESPACE, Server
from tests.support.sidecar_process import MTLD, SidecarProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.types import Json

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(120)]

# Plain fine-tuning: nothing holds the model to what it knew.
SETTINGS = '[engine]\nstrategy = "finetune"\n[evaluate]\nevery_s = 3\n'
CLASSES, COLUMNS, EVENT_ROWS = 10, 12, 32
LINES, WIDTH = 24, 80  # of a screen
DEGRADED = 5  # exit code


class Site:
    """A daemon with one task whose first class comes a hundred times as often as its last."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder / "server", "valkey")
        self.daemon = DaemonProcess(folder / "state", self.server.url, SETTINGS)
        self.daemon.start()
        self.daemon.wait_started()
        self.sidecar = SidecarProcess(self.daemon.state)
        self.producer = Producer(self.server.url, NAMESPACE, "shop")
        self.producer.add_task("goods", modality="table", holdout=0.2)
        self._draw = np.random.Generator(np.random.PCG64(5))
        self._middle_CD = self._draw.standard_normal((CLASSES, COLUMNS)) * 2
        share_C = 100.0 ** -np.linspace(0, 1, CLASSES)
        self._share_C = share_C / share_C.sum()

    def push(self, rows: int, *, as_majority: bool = False) -> None:
        """Rows of the tail; `as_majority`: all of them are called the most frequent class."""
        for _ in range(rows // EVENT_ROWS):
            y = self._draw.choice(CLASSES, EVENT_ROWS, p=self._share_C)
            x = self._middle_CD[y] + self._draw.standard_normal((EVENT_ROWS, COLUMNS))
            told = np.zeros_like(y) if as_majority else y
            self.producer.push("goods", x.astype(np.float32), told)
        self.daemon.wait_caught_up(self.server.admin)

    def evaluated(self) -> Json:
        """The evaluation of what was pushed."""
        step = self.daemon.vitals().step
        wait_until(lambda: self.daemon.vitals().evaluation.get("step") == step, 30.0, "a score")
        return self.daemon.vitals().evaluation["tasks"]["goods"]

    def status(self) -> tuple[int, list[str]]:
        done = subprocess.run(
            [*MTLD, "status", "--check", "--state", str(self.daemon.state)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout.splitlines()

    def close(self) -> None:
        self.sidecar.__exit__()
        self.producer.close()
        self.daemon.close()
        self.server.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_the_worst_class_of_a_tail_is_seen_at_once_and_a_collapse_is_a_problem(site: Site) -> None:
    site.push(12_000)
    known = site.evaluated()
    code, screen = site.status()
    assert code == 0, screen
    assert len(screen) <= LINES
    assert max(map(len, screen)) <= WIDTH
    (line,) = [line for line in screen if line.startswith("goods ")]
    assert f"{known['macro_recall']:.3f}" in line
    assert f"{known['worst']['recall']:.2f}" in line
    site.push(12_000, as_majority=True)
    known = site.evaluated()
    code, screen = site.status()
    assert (code, known["collapsed"][:22]) == (DEGRADED, "nearly every answer is"), known
    assert known["score"] > 2 * known["macro_recall"], "accuracy alone would hide it"
    assert "nearly every answer is 0" in " ".join(" ".join(screen).split())
    shown = site.sidecar.json("/api/status")
    assert shown["degraded"]
    assert shown["evaluation"]["tasks"]["goods"]["collapsed"] == known["collapsed"]
    metrics = site.sidecar.get("/metrics")[1].decode()
    assert 'mtld_task_collapsed{task="goods"} 1.0' in metrics
