"""A verb that needs torch replaces its process and hands over what was asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon import handover
from daemon.errors import Refused


def test_the_new_process_gets_what_was_asked_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(handover.os, "execv", lambda *words: started.append(words))
    handover.become("daemon.predict", task="ärger", to=None, model=Path("/a b"), rows=3)
    ((program, words),) = started
    assert program == sys.executable
    assert words[:3] == [sys.executable, "-m", "daemon.predict"]
    assert json.loads(words[3]) == {"task": "ärger", "to": None, "model": "/a b", "rows": 3}


def test_an_error_of_the_work_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(answer: int) -> None:
        if answer != 3:
            raise Refused("not now")

    monkeypatch.setattr(sys, "argv", ["x", '{"answer": 3}'])
    assert handover.carry_out(work) == 0
    monkeypatch.setattr(sys, "argv", ["x", '{"answer": 4}'])
    assert handover.carry_out(work) == 7
    assert capsys.readouterr().err == "mtld: not now\n"
