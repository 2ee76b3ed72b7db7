"""The salt of the hold-outs: made once for a state directory, readable by its owner alone, and kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.config import HoldoutSettings
from daemon.salt import BYTES, NAME, salt
from daemon.sources.memory import MemoryLog
from tests.support.core import SALT, add_task, config, eager, loop, play, rows

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"
    made = salt(state, None)
    assert len(bytes.fromhex(made)) == BYTES
    assert salt(state, None) == made
    assert (state / NAME).stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in state.iterdir()] == [NAME]
    assert salt(tmp_path / "other", None) != made


def test_a_configured_one_is_taken_and_nothing_is_written(tmp_path: Path) -> None:
    assert salt(tmp_path, "of the site") == "of the site"
    assert list(tmp_path.iterdir()) == []


def test_it_is_durable_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="no power"):
            salt(tmp_path, None)
    assert not (tmp_path / NAME).exists()
    left = (tmp_path / "salt.tmp").read_text()
    assert salt(tmp_path, None) != left  # what was not durable is made anew


def test_a_state_goes_on_with_its_own_salt_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager(monkeypatch)
    log = MemoryLog()
    log.add(add_task(holdout=0.3))
    log.add(rows(1, 8))
    one = loop(config(tmp_path), log)
    play(one)
    other = config(tmp_path, holdout=HoldoutSettings(salt="another"))
    for settings, warns in ((other, True), (config(tmp_path), False)):
        with capture_logs() as said:
            again = loop(settings, log)
        assert again.machine.engine.judge.splitter.contents.salt == SALT
        warnings = [line["event"] for line in said if line["log_level"] == "warning"]
        assert any("holdout.salt" in line for line in warnings) is warns
