"""What an operator reads, kept as text in golden/: tables, screens and the help of every verb, at 80 columns."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon import vitals
from daemon.commands import checks
from daemon.sources.link import Keys
from daemon.types import Json, Vitals
from tests.contract.test_commands import verbs
from tests.daemon.commands.conftest import Answering, Mtld, add_checkpoint
from tests.support.golden import check
from tests.support.scorecards import CONFUSED, SHIRTS, appraisal, card, verdict
from tests.support.servers import Server

GOLDEN = Path(__file__).with_name("golden")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SHOWN_STATE = "/var/lib/mtld/prod"  # as long as the real one, so that lines break alike
KEYS = Keys.of("default")

PLAIN = ("init",)
SCREENS = (
    "status",
    "top",
    "task-list",
    "task-show",
    "checkpoint-list",
    "snapshot-list",
    "snapshot-show",
    "doctor",
)
ANSWERED = ("evaluate", "evaluate-fashion")
FROM_THE_SERVER = ("dead-list", "dead-show", "tail")


def _scored(metric: str, score: float, rows: int, **more: Any) -> Json:
    """One task in the newest evaluation."""
    told = {
        "metric": metric,
        "score": score,
        "rows": rows,
        "at": "2026-01-02T03:00:05Z",
        "step": 123_000,
    }
    blank = {
        "interval": None,
        "macro_recall": None,
        "worst": None,
        "collapsed": "",
        "forgetting": 0.0,
        "min_acc": score,
    }
    return {**blank, **told, **more}


HEALTHY: Json = {
    "state": "training", "pid": 4242, "namespace": "default", "broker": "valkey 9.1.2 unix:///run/mtld/broker.sock",
    "written_at": "2026-01-02T03:04:04Z", "epoch": 1, "step": 123_456, "rows_per_s": 1234.5, "task": "fashion",
    "phase": "sandals-sneakers", "lag_events": 12, "pending_rows": 31, "replay_rows": 500, "replay_bytes": 392_000,
    "counters": {"trained_rows": 3_950_000, "held_out_rows": 1000, "duplicate_rows": 64, "dead_rows": 3,
                 "dead_events": 2, "lost_events": 0},
    "checkpoint": {"seq": 42, "step": 123_400, "at": "2026-01-02T03:04:01Z", "stage_ms": 2.4, "bytes": 4_900_000},
    "snapshot": {"version": 7, "at": "2026-01-02T02:54:05Z", "scores": {"fashion": {"accuracy": 0.891},
                 "mood": {"accuracy": 0.934}, "price": {"r2": None, "mae": 12.25}}},
    "recovery_s": 1.25,
    "tasks": [
        {"name": "fashion", "modality": "image", "kind": "classification", "input_shape": [28, 28], "columns": 10,
         "classes": ["ankle boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "top", "trouser"],
         "replay_rows": 300, "share": 1.0, "loss_weight": 1.0, "tolerance": 0.01, "null_loss": 2.302585},
        {"name": "mood", "modality": "text", "kind": "classification", "columns": 2, "replay_rows": 150},
        {"name": "price", "modality": "table", "kind": "regression", "columns": 1, "replay_rows": 50},
    ],
    "faults": {"broker_down": {"count": 2, "last": "2026-01-02T02:44:05Z",
               "detail": "the server unix:///run/mtld/broker.sock does not answer: connection refused"}},
    "events": [
        {"at": "2026-01-02T02:54:05+00:00", "kind": "task_switched",
         "detail": {"task": "fashion", "phase": "sandals-sneakers", "step": 120_000}},
        {"at": "2026-01-02T02:54:06+00:00", "kind": "snapshot_published", "detail": {"version": 7, "error": ""}},
    ],
    "losses": {},
    "evaluation": {
        "at": "2026-01-02T03:00:05Z", "step": 123_000, "rows": 1640, "every_s": 300.0, "average": 0.871,
        "forgetting": 0.018, "min_acc": 0.764, "wc_acc": 0.842,
        "tasks": {
            "fashion": _scored("accuracy", 0.891, 1000, worst={"class": "shirt", "recall": 0.712, "rows": 96}, macro_recall=0.886,
                               interval=[0.870, 0.909]),
            "mood": _scored("accuracy", 0.934, 500, worst={"class": "bad", "recall": 0.911, "rows": 230}, macro_recall=0.933,
                            interval=[0.909, 0.953]),
            "price": _scored("r2", 0.788, 140),
        },
        "parts": {},
    },
    "guard": {"action": "alert", "since": "1767322445000-0", "fallen": {}},
}  # fmt: skip

WRONG: Json = {
    "guard": {"action": "alert", "since": "1767322445000-0", "fallen": {
        "fashion/sandals-sneakers": {"was": 0.962, "is": 0.504, "rows": 82, "at": "2026-01-02T03:00:05Z", "sources": ["camera-7/4f"]}}},
    "senders": {"fashion": {"camera-7/4f": {"score": 0.113, "rows": 850}, "camera-8/91": {"score": 0.951, "rows": 900}}},
    "skips": [["1767322000000-0", "1767322600000-3"]],
    "evaluation": HEALTHY["evaluation"] | {"tasks": HEALTHY["evaluation"]["tasks"] | {
        "mood": _scored("accuracy", 0.512, 500, macro_recall=0.5, interval=[0.468, 0.556], worst={"class": "bad", "recall": 0.0, "rows": 230},
                        collapsed="class bad is never answered (recall 0.00 on 230 rows)")}},
}  # fmt: skip


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory whose path has always the same length."""
    path = Path(tempfile.mkdtemp(prefix="mtld-", dir="/tmp"))
    assert len(str(path)) == len(SHOWN_STATE)
    for name in ("MTLD_REDIS_URL", "MTLD_NAMESPACE", "MTLD_CONFIG", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MTLD_STATE", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """The same time, processes and machine in every run."""

    def age_s(stamp: str) -> float | None:
        return (NOW - datetime.fromisoformat(stamp)).total_seconds() if stamp else None

    monkeypatch.setattr(vitals, "age_s", age_s)
    monkeypatch.setattr(vitals, "now", lambda: NOW.isoformat().replace("+00:00", "Z"))
    monkeypatch.setattr(vitals, "is_alive", lambda seen: seen.pid > 0)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.5, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_500_000_000))
    monkeypatch.setattr(checks, "_fsync_s", lambda _: 0.0123)
    monkeypatch.setattr(checks, "__file__", "/opt/mtld/lib/daemon/commands/checks.py")
    monkeypatch.setattr(sys, "version_info", (3, 11, 9, "final", 0))
    installed = {"torch": "2.13.0+cpu", "redis": "8.1.0", "numpy": "2.4.6"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)


@pytest.fixture
def told(state: Path) -> None:
    """A daemon that trains, with checkpoints and snapshots."""
    known = {name: value for name, value in HEALTHY.items() if name in Vitals.__slots__}
    vitals.write(state / vitals.NAME, Vitals(**known))
    for seq in (41, 42):
        add_checkpoint(state, seq)
    for version in (6, 7):
        path = state / "models" / f"v{version:06d}"
        path.mkdir(parents=True)
        manifest = {
            "at": "2026-01-02T02:54:05Z", "step": version * 1000, "epoch": 1, "watermark": f"{version}-0",
            "scores": HEALTHY["snapshot"]["scores"], "reason": "switch", "verdict": verdict(),
            "probabilities": {"fashion": {"decision": "balanced", "ece": {"value": 0.021, "interval": [0.014, 0.032]}}},
            "scorecards": {"fashion": card(SHIRTS, CONFUSED)},
            "files": {"model.safetensors": {"bytes": 2_400_000, "sha256": "0" * 64}},
        }  # fmt: skip
        (path / "manifest.json").write_text(json.dumps(manifest))
    (state / "models" / "latest").symlink_to("v000007")
    (state / "models" / "previous").symlink_to("v000006")


def shown(mtld: Mtld, state: Path, *words: object) -> str:
    """Both streams of one invocation, without what differs from run to run."""
    result = mtld(*words)
    lines = [result.out, *(f"stderr: {line}\n" for line in result.err.splitlines())]
    return "".join(lines).replace(str(state), SHOWN_STATE) + f"exit code {result.code}\n"


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_is_as_it_was(mtld: Mtld, state: Path, told: None, name: str) -> None:
    words = name.split("-")
    extra = {"top": ["--once"], "task-show": ["fashion"]}.get(name, [])
    text = shown(mtld, state, *words, *extra)
    assert max(map(len, text.splitlines())) <= 80
    check(GOLDEN / f"{name}.txt", text)


@pytest.mark.parametrize("name", SCREENS[:2])
def test_a_screen_of_what_is_wrong_is_as_it_was(
    mtld: Mtld, state: Path, told: None, name: str
) -> None:
    vitals.write(state / vitals.NAME, Vitals(**{**HEALTHY, **WRONG}))
    text = shown(mtld, state, name, *(["--once"] if name == "top" else []))
    assert max(map(len, text.splitlines())) <= 80
    check(GOLDEN / f"{name}-wrong.txt", text)


@pytest.mark.parametrize("name", ANSWERED)
def test_what_the_daemon_answers_is_shown_as_it_was(
    mtld: Mtld, state: Path, daemon: Answering, name: str
) -> None:
    daemon.answers["evaluate"] = appraisal()
    text = shown(mtld, state, *name.split("-"))
    assert max(map(len, text.splitlines())) <= 80
    check(GOLDEN / f"{name}.txt", text)


def test_the_settings_file_is_as_it_was(mtld: Mtld) -> None:
    check(GOLDEN / "init.txt", mtld("init", "--dry-run").out)


Verb = Callable[..., Any]


@pytest.fixture
def log(server: Server) -> None:
    """Two dead letters and some journal lines, at fixed ids."""

    def add(key: str, entry: str, fields: Json) -> None:
        flat = [part for pair in fields.items() for part in map(str, pair)]
        server.admin.call("XADD", key, entry, *flat)

    common = {
        "specversion": "1.0",
        "source": "camera-7/4f",
        "type": "mtl.data.v1",
        "subject": "fashion",
    }
    add(KEYS.events, "1767322000000-0", {**common, "id": "17", "data": '{"x": [[1, 2]], "y": [0]}'})
    dead = {"id": "1767322000000-0", "event_id": "17", "source": "camera-7/4f", "type": "mtl.data.v1",
            "subject": "fashion", "hop": 0, "rows": 64, "at": "2026-01-02T02:46:41Z"}  # fmt: skip
    add(KEYS.dead, "1767322001000-0", {**dead, "reason": "wrong_shape",
        "message": "x of fashion has rows of shape (2,): allowed is (28, 28), as in the first rows of this task"})  # fmt: skip
    add(KEYS.dead, "1767322002000-0", {**dead, "id": "1-1", "reason": "nan_input", "rows": 1,
        "message": "x of fashion holds NaN: allowed are finite numbers"})  # fmt: skip
    scores = {"fashion": 0.891, "mood": 0.934, "price": None}
    detail = {"task": "fashion", "phase": "sandals-sneakers", "step": 120_000, "scores": scores}
    for entry, kind, what in (
        ("1767322445000-0", "task_switched", detail),
        ("1767322446000-0", "snapshot_published", {"version": 7, "error": ""}),
        ("1767322500000-0", "paused", {"by": "ana", "reason": "the disk is swapped"}),
    ):
        at = "2026-01-02T02:54:05.000+00:00"
        add(KEYS.journal, entry, {"kind": kind, "at": at, "detail": json.dumps(what)})


@pytest.mark.redis
@pytest.mark.parametrize("name", FROM_THE_SERVER)
def test_what_the_server_holds_is_shown_as_it_was(
    mtld: Mtld, state: Path, log: None, name: str
) -> None:
    extra = ["1767322001000-0"] if name == "dead-show" else []
    text = shown(mtld, state, *name.split("-"), *extra)
    assert max(map(len, text.splitlines())) <= 88  # "stderr: " is the test's
    check(GOLDEN / f"{name}.txt", text)


HELP = [(), *sorted({verb[:1] for verb in verbs() if len(verb) > 1}), *verbs()]


@pytest.mark.parametrize("verb", HELP, ids=lambda verb: " ".join(verb) or "mtld")
def test_the_help_of_a_verb_is_as_it_was(mtld: Mtld, verb: tuple[str, ...]) -> None:
    result = mtld(*verb, "--help")
    assert max(map(len, result.out.splitlines())) <= 80
    check(GOLDEN / "help" / f"{'-'.join(verb) or 'mtld'}.txt", result.out)


def test_no_file_is_left_of_a_verb_that_is_gone() -> None:
    written = {
        *PLAIN,
        *SCREENS,
        *ANSWERED,
        *FROM_THE_SERVER,
        *(f"{name}-wrong" for name in SCREENS[:2]),
    }
    written |= {f"help/{'-'.join(verb) or 'mtld'}" for verb in HELP}
    there = {path.relative_to(GOLDEN).with_suffix("").as_posix() for path in GOLDEN.rglob("*.txt")}
    assert there == written
