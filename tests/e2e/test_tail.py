"""A long tail of classes in real pictures: its worst class is on the first screen, a collapse turns it red, and all views agree."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.site import Site
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.apt, pytest.mark.timeout(180)]

FASHION = Path("/usr/share/datasets/fashion-mnist")

# Rare classes weigh as much as others, and little holds the model to what it knew. With a salt of its own the model is
# another one every time, and a bad one would rightly be called so.
SETTINGS = f"""
[holdout]
salt = "{8:064x}"
[engine]
buffer_rows = 20
replay_batch = 2
[strategy]
name = "er"
adjust = 1.0
[evaluate]
every_s = 3
"""
# Frequent ones first. Shirts are hard to tell from other tops: as a rare class they would rightly be called gone.
CLASSES, EVENT_ROWS = (6, 0, 2, 4, 3, 9, 7, 5, 8, 1), 32
LINES, WIDTH = 24, 80  # of a screen
DEGRADED = 5  # exit code


def fashion() -> tuple[np.ndarray, np.ndarray]:
    """The training pictures and their classes."""
    if not FASHION.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    x, y = (gzip.decompress((FASHION / f"train-{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1"))  # fmt: skip
    return np.frombuffer(x, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
        y, np.uint8, offset=8
    )


class Tail(Site):
    """A daemon with one task whose first class comes a hundred times as often as its last."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SETTINGS)
        self.start()
        self.shop = self.producer("shop")
        self.shop.add_task("goods", modality="image", holdout=0.2)
        self._draw = np.random.Generator(np.random.PCG64(5))
        self._x, self._y = fashion()
        share_C = 100.0 ** -np.linspace(0, 1, len(CLASSES))
        self._share_C = share_C / share_C.sum()

    def push(self, rows: int, *, as_majority: bool = False) -> None:
        """Rows of the tail; `as_majority`: all of them are called the most frequent class."""
        for _ in range(rows // EVENT_ROWS):
            wanted = self._draw.choice(np.array(CLASSES), EVENT_ROWS, p=self._share_C)
            row = np.array(
                [self._draw.choice(np.flatnonzero(self._y == label)) for label in wanted]
            )
            told = np.full_like(wanted, CLASSES[0]) if as_majority else wanted
            self.shop.push("goods", self._x[row], told)
        self.wait_caught_up()

    def evaluated(self) -> Json:
        """The evaluation of what was pushed."""
        step = self.vitals().step
        wait_until(lambda: self.vitals().evaluation.get("step") == step, 30.0, "a score")
        return self.vitals().evaluation["tasks"]["goods"]

    def assert_all_views_agree(self) -> None:
        """Status, page and metrics show the newest evaluation and nothing else."""
        told = self.vitals().evaluation
        known = told["tasks"]["goods"]
        assert self.status()["evaluation"] == told
        assert self.sidecar.json("/api/status")["evaluation"] == told
        metrics = self.metrics()
        for name, value in (
            ("score", known["score"]), ("macro_recall", known["macro_recall"]), ("score_rows", known["rows"]),
            ("worst_recall", known["worst"]["recall"]), ("min_score", known["min_acc"]),
        ):  # fmt: skip
            assert metrics[f'mtld_{name}{{task="goods"}}'] == pytest.approx(value)
        for name, key in (("average_score", "average"), ("worst_case_score", "wc_acc")):
            assert metrics[f"mtld_{name}"] == pytest.approx(told[key])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Tail]:
    with Tail(tmp_path) as made:
        yield made


def test_the_worst_class_of_a_tail_is_seen_at_once_and_a_collapse_is_a_problem(site: Tail) -> None:
    site.push(12_000)
    known = site.evaluated()
    site.assert_all_views_agree()
    code, printed = site.mtld("status", "--check")
    screen = printed.splitlines()
    assert code == 0, screen
    assert len(screen) <= LINES
    assert max(map(len, screen)) <= WIDTH
    (line,) = [line for line in screen if line.startswith("goods ")]
    assert f"{known['macro_recall']:.3f}" in line
    assert f"{known['worst']['recall']:.2f}" in line
    site.shop.switch("goods", "sale")
    site.push(12_000, as_majority=True)
    known = site.evaluated()
    site.assert_all_views_agree()
    code, printed = site.mtld("status", "--check")
    screen = printed.splitlines()
    assert code == DEGRADED
    assert known["collapsed"], known
    assert known["score"] > known["macro_recall"] + 0.2, "accuracy alone would hide it"
    assert known["collapsed"] in " ".join(" ".join(screen).split())
    shown = site.sidecar.json("/api/status")
    assert shown["degraded"]
    assert shown["evaluation"]["tasks"]["goods"]["collapsed"] == known["collapsed"]
    assert site.metrics()['mtld_task_collapsed{task="goods"}'] == 1.0
