"""What the verbs' tests share: a state directory, its vitals, a daemon that answers as told, and a real server."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon import cli, vitals
from daemon.control import ControlServer
from daemon.types import Json, Request, Vitals
from tests.support.servers import Server


@dataclass(frozen=True, slots=True)
class Result:
    """What one invocation printed and returned."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Mtld = Callable[..., Result]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory, which every verb of the test finds by its environment."""
    for name in ("MTLD_REDIS_URL", "MTLD_NAMESPACE", "MTLD_CONFIG", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("MTLD_STATE", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    return path


@pytest.fixture
def mtld(state: Path, capsys: pytest.CaptureFixture[str]) -> Mtld:
    """Types one command line."""

    def typed(*words: object) -> Result:
        capsys.readouterr()
        code = cli.run([str(word) for word in words], lambda *_: 0)
        return Result(code, *capsys.readouterr())

    return typed


@pytest.fixture
def tell(state: Path) -> Callable[..., Vitals]:
    """Writes the vitals of a daemon: this process, unless a test says otherwise."""

    def write(**facts: Any) -> Vitals:
        told = Vitals(
            **{"written_at": vitals.now(), "pid": os.getpid(), "state": "training", **facts}
        )
        vitals.write(state / vitals.NAME, told)
        return told

    return write


@dataclass
class Answering:
    """A control socket that keeps what was asked and answers each command with what a test put here."""

    answers: Json = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)


@pytest.fixture
def daemon(state: Path) -> Iterator[Answering]:
    """A daemon's control socket."""
    server, told = ControlServer(state / "control.sock"), Answering()

    def answer() -> None:
        while (request := server.requests.get()).name != "end of test":
            told.asked.append(request)
            request.reply(told.answers.get(request.name, {}))

    thread = threading.Thread(target=answer)
    thread.start()
    yield told
    server.requests.put(Request("end of test", {}, lambda _: None))
    thread.join()
    server.close()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real server for all tests of this folder."""
    server = Server(tmp_path_factory.mktemp("valkey"), "valkey")
    yield server
    server.close()


@pytest.fixture
def server(valkey: Server, state: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """That server, empty, and found by its URL in the environment."""
    valkey.admin.call("FLUSHALL")
    monkeypatch.setenv("MTLD_REDIS_URL", valkey.url)
    return valkey


def add_checkpoint(state: Path, seq: int, content: bytes = b"state", current: bool = True) -> Path:
    """A checkpoint as the daemon lays it out, of one file."""
    return _directory(state / "checkpoints", f"{seq:06d}", content, seq if current else None)


def _directory(root: Path, name: str, content: bytes, current: int | None) -> Path:
    import hashlib

    path = root / name
    path.mkdir(parents=True)
    (path / "state.safetensors").write_bytes(content)
    said = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest = {
        "schema": 1, "seq": int(name), "parent": int(name) - 1 or None, "step": int(name) * 100, "epoch": 1,
        "watermark": f"{name}-0", "at": vitals.now(), "files": {"state.safetensors": said}, "segments": [],
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    if current is not None:
        (root / "CURRENT").write_text(json.dumps({"seq": current, "lineage": [current]}))
    return path
