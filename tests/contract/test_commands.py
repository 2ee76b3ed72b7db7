"""What every verb keeps: help that says something, JSON that parses, exit codes, one line for an error, and a quick start."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from daemon import cli, vitals
from daemon.commands import COMMANDS
from daemon.types import Vitals

# What an operator and a probe wait for `mtld status`, the best of several starts. Counted in processor time: it
# waits for nothing, so that is how long it takes unless other programs are in its way.
COLD_START_S = 0.3
ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "mtl_engine", "redis", "numpy", "rich", "structlog")


def verbs() -> list[tuple[str, ...]]:
    """All command lines: verbs, and the verbs of groups."""
    found: list[tuple[str, ...]] = []
    for name, place in COMMANDS.items():
        module, _, attribute = place.partition(":")
        target = vars(import_module(module))[attribute]
        if isinstance(target, typer.Typer):
            inner = [
                one.name or one.callback.__name__
                for one in target.registered_commands
                if one.callback
            ]
            found += [(name, one) for one in inner]
        else:
            found.append((name,))
    return found


# What each verb needs beside the common options; of none of them is there a daemon or a server.
ARGUMENTS: dict[tuple[str, ...], list[str]] = {
    ("push",): ["rows.jsonl", "--task", "a"],
    ("task", "add"): ["a", "--modality", "text"],
    ("task", "show"): ["a"],
    ("task", "switch"): ["a"],
    ("task", "retire"): ["a", "--confirm", "a"],
    ("task", "update"): ["a", "--share", "2"],
    ("task", "accept"): ["a"],
    ("predict",): ["rows.jsonl", "--task", "a"],
    ("snapshot", "export"): ["--format", "onnx"],
    ("rollback",): ["1", "--confirm", "1"],
    ("snapshot", "pin"): ["1"],
    ("snapshot", "unpin"): ["1"],
    ("dead", "show"): ["1-1"],
    ("dead", "replay"): ["1-1"],
    ("dead", "purge"): ["1-1"],
}
NEEDS_NOTHING = {("init",), ("config", "show"), ("config", "check"), ("checkpoint", "list"), ("checkpoint", "verify"),
                 ("snapshot", "list"), ("snapshot", "verify"), ("doctor",)}  # fmt: skip
LAUNCHES = {
    ("run",),
    ("demo",),
    ("sidecar",),
}  # they replace the process, or serve until they are told to stop
NEEDS_A_SNAPSHOT = {
    ("snapshot", "show"),
    ("snapshot", "export"),
    ("snapshot", "diff"),
    ("snapshot", "promote"),
    ("snapshot", "rollback"),
    ("snapshot", "pin"),
    ("snapshot", "unpin"),
    ("predict",),
}

ASKS_THE_SERVER = [
    verb
    for verb in verbs()
    if verb[0] in {"push", "dead", "tail"}
    or verb[1:] in {("add",), ("switch",), ("retire",), ("update",)}
]

each_verb = pytest.mark.parametrize("verb", verbs(), ids=" ".join)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory, and nothing in the environment that would lead to another one."""
    for name in ("MTLD_REDIS_URL", "MTLD_NAMESPACE", "MTLD_CONFIG", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MTLD_STATE", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"x": [1], "y": 0}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words: str) -> int:
    return cli.run(words, lambda *_: 0)


def test_the_verbs_of_the_manual_are_there() -> None:
    promised = {
        "init", "run", "demo", "sidecar", "status", "top", "doctor", "push", "task add", "task list", "task show", "task switch",
        "task update", "task retire", "task accept",
        "pause", "resume", "drain", "checkpoint now", "checkpoint list", "checkpoint verify", "snapshot list",
        "snapshot show", "snapshot verify", "dead list", "dead show", "dead replay",
        "dead export", "dead purge", "tail", "config show", "config check",
    }  # fmt: skip
    assert promised <= {" ".join(verb) for verb in verbs()}


@each_verb
def test_help_says_what_the_verb_does_and_fits_the_screen(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(*verb, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    body = " ".join(lines[1 : lines.index("Options:")]).split()
    assert len(body) >= 8, body
    assert max(map(len, lines)) <= 80
    assert any("--output" in line for line in lines)


@each_verb
def test_every_option_has_a_help_text(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    typed(*verb, "--help")
    text = capsys.readouterr().out
    options = text[text.index("Options:") :].splitlines()[1:]
    for here, following in zip(options, [*options[1:], ""], strict=True):
        if here.startswith("  -"):
            told = here.strip().split("  ", 1)[1:] or [
                following.strip() if not following.startswith("  -") else ""
            ]
            assert told[0].strip(), here


@each_verb
def test_an_unknown_option_is_a_usage_error(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(*verb, *ARGUMENTS.get(verb, []), "--no-such-option") == 2
    assert "no such option" in capsys.readouterr().err.lower()


@pytest.mark.parametrize("verb", [verb for verb in verbs() if verb not in LAUNCHES], ids=" ".join)
def test_without_a_daemon_a_verb_says_so_in_one_line_or_does_what_it_can(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = typed(*verb, *ARGUMENTS.get(verb, []), "-o", "json")
    out, err = capsys.readouterr()
    if verb in NEEDS_NOTHING:
        assert code == 0
        json.loads(out)
        return
    assert code == (7 if verb in NEEDS_A_SNAPSHOT else 3)
    assert out == ""
    assert err.startswith("mtld: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ASKS_THE_SERVER, ids=" ".join)
def test_a_server_that_is_gone_exits_4(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    short = ["--timeout", "0.1"] if verb[0] in {"push", "task"} else []
    code = typed(
        *verb, *ARGUMENTS.get(verb, []), *short, "--redis-url", f"unix://{state}/none.sock"
    )
    assert code == 4
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("mtld: the server unix://")
    assert len(err) == 1


def test_no_verb_loads_torch_or_the_engine() -> None:
    code = f"""
import sys
from daemon.cli import build
build({list(COMMANDS)!r})
print([name for name in sys.modules if name.split(".")[0] in {HEAVY}])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_status_answers_within_its_bound_from_a_cold_start(state: Path) -> None:
    vitals.write(state / vitals.NAME, Vitals(written_at=vitals.now(), pid=1, state="training"))
    code = "import sys; from daemon.cli import main; sys.exit(main())"
    took: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", code, "status"], capture_output=True, check=False, cwd=ROOT
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < COLD_START_S, took
