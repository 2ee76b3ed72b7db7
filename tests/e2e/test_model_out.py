"""From a real daemon to its users: what it publishes is evaluated, compared, exported and served, and swapped while served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from daemon import releases
from mtl_engine.reader import ModelReader
from tests.daemon.test_predict import mtld
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import Server
from tests.support.stream import SETTINGS, TASKS, Feed, send

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


def test_what_a_daemon_publishes_leaves_by_every_way(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", "valkey")
    try:
        with DaemonProcess(tmp_path / "state", server.url, SETTINGS + TASKS) as daemon:
            _walk(daemon, server)
            assert daemon.drain() == 0
    finally:
        server.close()


def _walk(daemon: DaemonProcess, server: Server) -> None:
    feed, models = Feed(1), daemon.state / "models"
    daemon.start()
    daemon.wait_started()
    for version in (1, 2):
        send(server.admin, [feed.digits(40, 4) for _ in range(5)])
        daemon.wait_caught_up(server.admin)
        step = daemon.ask("evaluate")["step"]
        published = daemon.ask("publish")["snapshot"]
        assert (published["version"], step > 0) == (version, True)
    scores = daemon.ask("evaluate")["scores"]
    manifest = releases.manifest(models / "v000002")
    assert scores == manifest["scores"]
    assert scores["digits"]["accuracy"] is not None

    releases.point(models, "champion", "v000001")
    with ModelReader(models) as reader:
        image = np.zeros((1, *_shape(reader)), np.uint8)
        first = reader.predict("digits", image)
        releases.point(models, "champion", "v000002")
        assert reader.refresh()
        second = reader.predict("digits", image)
    assert (first.version, second.version) == ("v000001", "v000002")

    stdin = json.dumps({"x": image[0].tolist(), "id": "zero"}).encode()
    answer = json.loads(mtld(models, "predict", "-t", "digits", stdin=stdin).stdout)
    assert answer == {"row": 0, "id": "zero", "prediction": second.labels[0], "version": "v000002"}
    diff = json.loads(mtld(models, "snapshot", "diff", "1", "2", "-o", "json").stdout)
    assert max(one["change"] or 0 for one in diff["tensors"]) > 0
    words = ("snapshot", "export", "-f", "torch-export", "-o", "json")
    exported = json.loads(mtld(models, *words).stdout)
    assert list(exported["tasks"]) == ["digits"]


def _shape(reader: ModelReader) -> tuple[int, ...]:
    model = reader.serving.model
    return model.registry.tables[model.model.table_of["digits"]].shape
