"""`mtld checkpoint list|verify`: what the disk holds, and exit 8 when it is not what the manifests say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon import vitals
from daemon.types import Vitals
from tests.daemon.commands.conftest import Mtld, add_checkpoint


@pytest.fixture(autouse=True)
def _three(state: Path) -> None:
    for seq in (1, 2, 3):
        add_checkpoint(state, seq)
    (state / "checkpoints" / "000004.tmp").mkdir()
    (state / "checkpoints" / "000000.bad").mkdir()


def test_the_list_is_newest_first_and_marks_where_a_start_resumes(mtld: Mtld) -> None:
    found = mtld("checkpoint", "list", "-o", "json").json
    assert [(one["seq"], one["current"], one["parent"], one["bytes"]) for one in found] == [
        (3, True, 2, 5),
        (2, False, 1, 5),
        (1, False, None, 5),
    ]
    shown = mtld("checkpoint", "list").out.splitlines()
    assert shown[0].split()[:3] == ["SEQ", "AGE", "STEP"]
    assert shown[1].endswith("current")


def test_the_list_says_whether_the_log_still_has_what_came_after(mtld: Mtld, state: Path) -> None:
    assert [one["replayable"] for one in mtld("checkpoint", "list", "-o", "json").json] == [
        None
    ] * 3
    marks = {one["seq"]: one["watermark"] for one in mtld("checkpoint", "list", "-o", "json").json}
    vitals.write(state / vitals.NAME, Vitals(epoch=1, trimmed_to=marks[2]))
    found = mtld("checkpoint", "list", "-o", "json").json
    assert {one["seq"]: one["replayable"] for one in found} == {3: True, 2: True, 1: False}


def test_whole_checkpoints_verify(mtld: Mtld) -> None:
    result = mtld("checkpoint", "verify")
    assert (result.code, result.out) == (0, "000003  ok\n000002  ok\n000001  ok\n")


def test_a_flipped_bit_exits_8_and_names_the_file(mtld: Mtld, state: Path) -> None:
    (state / "checkpoints" / "000002" / "state.safetensors").write_bytes(b"stbte")
    result = mtld("checkpoint", "verify", "-o", "json")
    assert result.code == 8
    assert [one["name"] for one in result.json if not one["ok"]] == ["000002"]
    assert "state.safetensors: sha256" in result.json[1]["problems"][0]
    assert mtld("checkpoint", "verify", 3).code == 0
    assert mtld("checkpoint", "verify", 2).code == 8


def test_a_current_that_names_nothing_exits_8(mtld: Mtld, state: Path) -> None:
    (state / "checkpoints" / "CURRENT").write_text('{"seq": 9, "lineage": [9]}')
    result = mtld("checkpoint", "verify")
    assert result.code == 8
    assert "CURRENT  names 9, which is not there" in result.out


@pytest.mark.parametrize("text", ["", "9", "{}", "[]"])
def test_a_current_that_is_none_exits_8(mtld: Mtld, state: Path, text: str) -> None:
    (state / "checkpoints" / "CURRENT").write_text(text)
    for verb in ("list", "verify"):
        result = mtld("checkpoint", verb)
        assert result.code == 8
        assert "CURRENT cannot be read" in result.err


def test_a_manifest_that_cannot_be_read_does_not_hide_the_others(mtld: Mtld, state: Path) -> None:
    (state / "checkpoints" / "000002" / "manifest.json").write_text("{")
    assert ["error" in one for one in mtld("checkpoint", "list", "-o", "json").json] == [
        False,
        True,
        False,
    ]
    assert "unreadable" in mtld("checkpoint", "list").out


def test_one_that_is_not_there_is_refused(mtld: Mtld) -> None:
    assert mtld("checkpoint", "verify", 9).code == 7


def test_nothing_yet_is_not_an_error(mtld: Mtld, tmp_path: Path) -> None:
    assert mtld("checkpoint", "list", "--state", tmp_path / "new").out == "no checkpoint yet\n"
    assert (
        json.loads(mtld("checkpoint", "verify", "--state", tmp_path / "new", "-o", "json").out)
        == []
    )
