"""`mtld status` answers by a short way, which must not be told from the long one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.commands import glance
from daemon.types import Vitals
from tests.daemon.commands.conftest import Mtld

SHORT = [
    ["status"],
    ["status", "--check"],
    ["status", "-o", "json"],
    ["status", "--output=json", "--check"],
    ["status", "--output", "json", "-o", "table"],
]
LONG = [
    ["status", "--help"],
    ["status", "-w"],
    ["status", "-ojson"],
    ["status", "-o=json"],
    ["status", "-o", "xml"],
    ["status", "-o"],
    ["status", "--state="],
    ["status", "--chek"],
    ["status", "more"],
    ["--help"],
    ["top"],
    [],
]


@pytest.mark.parametrize("words", SHORT, ids=" ".join)
def test_the_short_way_says_what_the_long_one_says(
    words: list[str], mtld: Mtld, tell: Callable[..., Vitals], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell()
    monkeypatch.setattr("daemon.vitals.age_s", lambda _: 5.0)  # however long the test takes
    assert glance.glance(words) is not None
    short = mtld(*words)
    monkeypatch.setattr("daemon.commands.glance.glance", lambda _: None)
    assert mtld(*words) == short
    assert short.out


@pytest.mark.parametrize("words", LONG, ids=" ".join)
def test_everything_else_goes_the_long_way(words: list[str]) -> None:
    assert glance.glance(words) is None


def test_a_named_state_directory_is_looked_at(
    mtld: Mtld, tell: Callable[..., Vitals], state: Path, tmp_path: Path
) -> None:
    tell(step=4711)
    assert "4,711" in mtld("status", "--state", state).out
    assert mtld("status", f"--state={tmp_path / 'empty'}").code == 3


def test_the_short_way_loads_no_command_line_library(state: Path) -> None:
    code = "import sys; from daemon.cli import main; main(); sys.exit('typer' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "--state", str(state)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no daemon has written" in done.stderr
    assert done.returncode == 0
