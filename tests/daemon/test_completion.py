"""Completion in a shell: verbs, sub-verbs, options and the names of tasks, with only what is needed imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import cli, vitals
from daemon.commands import COMMANDS
from daemon.types import Vitals

ROOT = Path(__file__).parents[2]
CODE = """
import atexit, sys
from daemon.cli import main
atexit.register(lambda: print(sorted(n for n in sys.modules if n.startswith("daemon.commands.")), file=sys.stderr))
sys.exit(main())
"""


def completed(line: str, state: Path, shell: str = "bash") -> tuple[list[str], str]:
    """What a shell is offered for the last word of a line, and which verbs were imported for it."""
    words = line.split(" ")
    environment = {**os.environ, "MTLD_STATE": str(state), "_MTLD_COMPLETE": f"complete_{shell}"}
    environment |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell != "bash":
        environment |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        del environment["COMP_WORDS"]
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stdout.split(), done.stderr


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tasks = [{"name": "fashion"}, {"name": "faces"}, {"name": "mood"}]
    vitals.write(tmp_path / vitals.NAME, Vitals(written_at=vitals.now(), tasks=tasks))
    return tmp_path


def test_verbs_are_offered(state: Path) -> None:
    assert set(completed("mtld ", state)[0]) == set(COMMANDS)
    assert set(completed("mtld s", state)[0]) == {name for name in COMMANDS if name[0] == "s"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mtld dead e", ["export"]),
        ("mtld task switch ", ["fashion", "faces", "mood"]),
        ("mtld task update fa", ["fashion", "faces"]),
        ("mtld push --task m", ["mood"]),
        ("mtld task add --mod", ["--modality"]),
    ],
)
def test_what_follows_a_verb_is_offered_and_only_that_verb_is_imported(
    state: Path, line: str, offered: list[str]
) -> None:
    found, imported = completed(line, state)
    assert found == offered
    assert f"daemon.commands.{line.split()[1]}" in imported
    assert "daemon.commands.doctor" not in imported


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same(state: Path, shell: str) -> None:
    found, _ = completed("mtld task switch mo", state, shell)
    assert "mood" in "\n".join(found)


def test_the_state_directory_that_is_typed_is_the_one_that_is_asked(
    state: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "none"
    assert completed(f"mtld task switch --state {empty} ", state)[0] == []
    assert completed(f"mtld task switch --state {state} mo", empty)[0] == ["mood"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_shown(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    assert cli.run(["--show-completion"], lambda *_: 0) == 0
    assert "_MTLD_COMPLETE" in capsys.readouterr().out
