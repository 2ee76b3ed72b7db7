"""The systemd units: valid, as tight as they claim, commented, and a daemon works under what they forbid."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_addresses import free_port
from tests.support import sandbox
from tests.support.daemon_process import ROOT, DaemonProcess
from tests.support.scraping import get, process
from tests.support.servers import Server
from tests.support.service_manager import ServiceManager
from tests.support.stream import SETTINGS, Feed, send

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = ROOT / "systemd"
SERVICES = ("mtld.service", "mtld-sidecar.service")
DROP_INS = tuple(f"{name}.d/gpu.conf" for name in SERVICES)
PROGRAM = "/opt/mtld/bin/mtld"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is missing: apt install systemd",
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a directory of their own, their program replaced by one that exists."""
    for name in SERVICES:
        text = (UNITS / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace(PROGRAM, "/bin/true"), "utf-8")
    return tmp_path


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


def directives(text: str) -> Iterator[tuple[str, str, str]]:
    """Key, value, and the line above, of every directive."""
    lines = text.splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if re.match(r"[A-Z]\w*=", line):
            yield *line.split("=", 1), above  # type: ignore[misc]


@pytest.mark.parametrize("name", [*SERVICES, *DROP_INS])
def test_every_directive_says_what_breaks_without_it(name: str) -> None:
    explained = False
    for key, _, above in directives((UNITS / name).read_text("utf-8")):
        is_of_a_group = explained and re.match(r"[A-Z]\w*=", above) is not None
        explained = above.startswith("#") or is_of_a_group
        assert explained or key in {"Description", "Documentation", "Type", "ExecStart"}, key


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.apt
@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(installed: Path, name: str) -> None:
    done = analyze("verify", "--man=no", installed / name)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.apt
@needs_systemd
@pytest.mark.parametrize(
    ("name", "drop_in", "at_most"),
    [
        pytest.param("mtld.service", False, 1.1, id="cpu"),
        pytest.param("mtld.service", True, 1.6, id="gpu"),
        pytest.param("mtld-sidecar.service", False, 1.1, id="sidecar"),
        pytest.param("mtld-sidecar.service", True, 1.6, id="gpu-sidecar"),
    ],
)
def test_the_units_are_exposed_no_more_than_they_claim(
    installed: Path, name: str, drop_in: bool, at_most: float
) -> None:
    if drop_in:
        (installed / f"{name}.d").mkdir()
        shutil.copy(UNITS / f"{name}.d/gpu.conf", installed / f"{name}.d")
        assert analyze("verify", "--man=no", installed / name).stderr == ""
    threshold = f"--threshold={at_most * 10:.0f}"  # the scale of the option is ten times the score
    done = analyze("security", "--offline=true", "--no-pager", threshold, installed / name)
    assert done.returncode == 0, done.stdout
    if drop_in:  # it was read: with a looser unit the score is higher
        assert "char-nvidia" in done.stdout


def test_the_settings_that_the_unit_starts_with_are_accepted() -> None:
    from daemon.config import load

    assert load(UNITS / "mtld.toml").redis_url is None


def make(*words: str) -> str:
    done = subprocess.run(
        ["make", "-s", "install-systemd", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout


def test_a_dry_run_of_the_installation_says_what_it_would_do_and_does_nothing(
    tmp_path: Path,
) -> None:
    told = make(f"DESTDIR={tmp_path}", "DRY_RUN=1", "GPU=1")
    assert told.count("install -D") == 6
    assert list(tmp_path.iterdir()) == []


def test_the_installation_puts_every_file_in_place_and_keeps_settings_that_are_there(
    tmp_path: Path,
) -> None:
    settings = tmp_path / "etc/mtld/mtld.toml"
    make(f"DESTDIR={tmp_path}", "GPU=1")
    settings.write_text('namespace = "mine"\n', "utf-8")
    make(f"DESTDIR={tmp_path}")
    assert settings.read_text("utf-8") == 'namespace = "mine"\n'
    found = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert found == {
        "etc/systemd/system/mtld.service",
        "etc/systemd/system/mtld-sidecar.service",
        "etc/systemd/system/mtld.service.d/gpu.conf",
        "etc/systemd/system/mtld-sidecar.service.d/gpu.conf",
        "etc/sysusers.d/mtld.conf",
        "etc/mtld/mtld.toml",
    }


def restricted(unit: str) -> list[str]:
    """What goes before a program to run it under a unit's system calls and memory rules."""
    filters = [
        value.split()
        for key, value, _ in directives((UNITS / unit).read_text("utf-8"))
        if key == "SystemCallFilter"
    ]
    allowed, denied = filters[0], [name.removeprefix("~") for name in filters[1]]
    return [sys.executable, sandbox.__file__, " ".join(sandbox.calls(allowed, denied))]


@pytest.mark.redis
@pytest.mark.timeout(120)
@pytest.mark.apt
@needs_systemd
def test_a_daemon_and_its_server_work_under_the_units_system_calls_and_memory_rules(
    tmp_path: Path,
) -> None:
    under = restricted("mtld.service")
    writable_code = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)"
    tried = subprocess.run(
        [*under, sys.executable, "-c", writable_code], capture_output=True, text=True, check=False
    )
    if "refuses prctl" in tried.stderr:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert "PermissionError" in tried.stderr, "the sandbox forbids nothing"
    feed, server = Feed(3), Server(tmp_path / "server", "valkey")
    with closing(server), DaemonProcess(tmp_path / "state", server.url, SETTINGS) as daemon:
        daemon.program = [*under, *daemon.program]
        daemon.start()
        daemon.wait_started()
        add = feed.told("mtl.task.add.v1", "digits", {"modality": "image", "holdout": 0.1})
        send(server.admin, [add, *(feed.digits(8, 4) for _ in range(10))])
        send(server.admin, [feed.told("mtl.task.switch.v1", "digits", {"phase": "b"})])
        told = daemon.wait_caught_up(server.admin)
        assert told.step > 0
        assert told.faults == {}
        daemon.wait(lambda told: told.snapshot.get("version"), what="a snapshot")
        assert daemon.drain() == 0


@pytest.mark.apt
@needs_systemd
@pytest.mark.timeout(60)
def test_the_sidecar_answers_under_its_unit_and_says_when_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, port = ServiceManager(tmp_path / "notify"), free_port()
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    words = ["-m", "daemon", "sidecar", "--listen", f"127.0.0.1:{port}", "--state", str(tmp_path)]
    with closing(manager):
        under = restricted("mtld-sidecar.service")
        with process(tmp_path / "log", *under, sys.executable, *words):
            manager.wait("READY=1", timeout_s=20.0)
            assert "mtld_up 0" in get(f"http://127.0.0.1:{port}/metrics")
        manager.wait("STOPPING=1", timeout_s=10.0)
