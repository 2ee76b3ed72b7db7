"""The recipes do what they say: their code is taken from the pages and run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.broker import EmbeddedBroker
from daemon.config import load
from daemon.sources.link import Link
from tests.integration.test_addresses import free_port
from tests.support.daemon_process import ROOT, DaemonProcess
from tests.support.servers import Server, binary
from tests.support.stream import SETTINGS, Feed, send

RECIPES = ROOT / "docs/recipes"
EVENTS = "mtl:{default}:events"


def blocks(page: str, language: str) -> list[str]:
    text = (RECIPES / f"{page}.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(code: str, name: str = "block") -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(code, name, "exec"), namespace)  # noqa: S102 - our own pages
    return namespace


@pytest.mark.redis
@pytest.mark.timeout(120)
def test_a_spool_that_is_pushed_twice_is_learned_once(tmp_path: Path) -> None:
    (code,) = blocks("cron", "python")
    push_spool = run(code)["push_spool"]
    server, spool = Server(tmp_path / "server", "valkey"), tmp_path / "spool"
    spool.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)
    np.savez(spool / "a.npz", x=images, y=np.arange(300) % 3)
    settings = f'{SETTINGS}[[task]]\nname = "digits"\nmodality = "image"\nholdout = 0.0\n'
    with DaemonProcess(tmp_path / "state", server.url, settings, "default") as daemon:
        daemon.start()
        daemon.wait_started()
        assert push_spool(server.url, spool, "digits") == 1
        (spool / "done/a.npz").rename(spool / "a.npz")  # as after a run that was interrupted
        assert push_spool(server.url, spool, "digits") == 1
        counted = daemon.wait_caught_up(server.admin).counters
        assert (counted["trained_rows"], counted["duplicate_rows"]) == (300, 300)
        assert daemon.drain() == 0
    server.close()


@pytest.mark.redis
@pytest.mark.skipif(shutil.which("node") is None, reason="node is missing: apt install nodejs")
def test_the_event_of_the_node_example_is_what_the_protocol_asks_for(tmp_path: Path) -> None:
    from daemon.events import parse
    from daemon.types import Entry, Limits

    (code,) = blocks("other-languages", "js")
    (tmp_path / "push.js").write_text(code, "utf-8")
    subprocess.run(
        [ROOT / "deploy/valkey/make-users", tmp_path / "s"], check=True, capture_output=True
    )
    port = free_port()
    options = (
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--aclfile",
        str(tmp_path / "s/users.acl"),
    )
    rows = {"x": ["ein schöner Tag", "dreadful"], "y": ["good", "bad"]}
    command = ["node", tmp_path / "push.js", "127.0.0.1", str(port), "mood"]
    with EmbeddedBroker(tmp_path / "b", options=options):
        for password, ok in (("producer-password", True), ("daemon-password", False)):
            done = subprocess.run(
                command, input=json.dumps(rows), env={"PATH": "/usr/bin:/bin", "PASSWORD_FILE": str(tmp_path / "s" / password)},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (done.returncode == 0) is ok, done.stderr
        viewer = Link.open(
            f"redis://viewer@127.0.0.1:{port}/0", password_file=tmp_path / "s/viewer-password"
        )
        ((entry_id, fields),) = viewer.call("XRANGE", EVENTS, "-", "+")
        viewer.close()
    assert done.stderr.startswith("-WRONGPASS")
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    assert parse(Entry(entry_id.decode(), found), Limits()) is not None
    assert json.loads(found[b"data"]) == rows


def test_the_encoder_of_the_recipe_passes_the_test_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, test = blocks("your-encoder", "python")
    (tmp_path / "my_encoders.py").write_text(encoder, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    tests = [value for name, value in run(test).items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()
    settings = tmp_path / "mtld.toml"
    settings.write_text(blocks("your-encoder", "toml")[0], "utf-8")
    assert load(settings).engine["encoder"]["image"]["name"] == "my_encoders:Backbone"


@pytest.mark.redis
@pytest.mark.apt
def test_a_server_set_up_as_in_the_recipe_is_one_that_doctor_approves_of(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt install openssl")
    certificates, users, *_ = blocks("external-redis", "sh")
    for script in (certificates, users.replace("deploy/", f"{ROOT}/deploy/")):
        subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True)
    shutil.copy(tmp_path / "secrets/users.acl", tmp_path)
    port, (conf,) = free_port(), blocks("external-redis", "text")
    words = [line.split(None, 1) for line in conf.replace("/etc/redis", str(tmp_path)).splitlines()]
    options = [part for key, value in words for part in (f"--{key}", value.strip('"'))]
    options[options.index("--tls-port") + 1] = str(port)
    settings = tmp_path / "mtld.toml"
    (toml,) = blocks("external-redis", "toml")
    toml = toml.replace("/etc/mtld/ca.pem", f"{tmp_path}/ca.pem").replace(":6379", f":{port}")
    settings.write_text(toml.replace("/etc/mtld/", f"{tmp_path}/secrets/"), "utf-8")
    with EmbeddedBroker(tmp_path / "b", binary=binary("redis7"), options=tuple(options)):
        url = load(settings).redis_url
        assert url is not None
        done = subprocess.run(
            [sys.executable, "-m", "daemon", "doctor", "-o", "json", "--redis-url", url.replace("daemon@", "viewer@"),
             "--password-file", tmp_path / "secrets/viewer-password", "--state", tmp_path / "state"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    found = {one["check"]: one["level"] for one in json.loads(done.stdout)}
    assert {found[name] for name in ("broker", "appendonly", "eviction", "memory")} == {"ok"}


@pytest.mark.redis
@pytest.mark.timeout(120)
def test_a_daemon_that_is_pointed_to_an_empty_server_says_so_once_and_goes_on(
    tmp_path: Path,
) -> None:
    feed = Feed(3)
    add = feed.told("mtl.task.add.v1", "digits", {"modality": "image", "holdout": 0.0})
    with ExitStack() as stack:
        servers = [Server(tmp_path / name, "valkey") for name in ("old", "new")]
        for server in servers:
            stack.callback(server.close)
        daemon = stack.enter_context(DaemonProcess(tmp_path / "state", servers[0].url, SETTINGS))
        daemon.start()
        daemon.wait_started()
        send(servers[0].admin, [add, *(feed.digits(8, 4) for _ in range(5))])
        daemon.wait_caught_up(servers[0].admin)
        assert daemon.drain() == 0
        daemon.url = servers[1].url
        daemon.start()
        daemon.wait(lambda told: told.faults, what="the regression to be noticed")
        send(servers[1].admin, [feed.digits(8, 4) for _ in range(5)])
        told = daemon.wait_caught_up(servers[1].admin)
        assert {name: fault["count"] for name, fault in told.faults.items()} == {
            "stream_regressed": 1
        }
        assert (told.counters["trained_rows"], told.counters["lost_events"]) == (80, 0)
        assert daemon.drain() == 0
