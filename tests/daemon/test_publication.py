"""Published snapshots: an intent in a durable checkpoint, carried out once however often it is tried."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from daemon import releases
from daemon.config import Gate, Publish
from daemon.cut import Process
from daemon.publication import Publication, Published
from mtl_engine import snapshot
from tests.support.core import add_task, entries, feed, machine, rows
from tests.support.spoilt import spoilt, varied

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.machine import LogMachine
    from daemon.types import Json

HEADER: Json = {"epoch": 2, "watermark": "9-0", "build": {"torch": "x"}, "step": 3}
X = [[1.0, 0.5, 1.0], [-2.0, 1.0, 1.0]]


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def trained() -> LogMachine:
    one = machine()
    feed(one, entries([add_task(holdout=0.3), rows(1, 20)]))
    return one


def _published(publication: Publication, one: LogMachine, intent: Json | None) -> Published:
    then = publication.carry_out(intent, one, HEADER)
    assert then is not None
    then()
    (outcome,) = publication.outcomes()
    return outcome


def test_a_snapshot_answers_as_the_engine_did_when_the_cut_was_taken(
    tmp_path: Path, trained: LogMachine
) -> None:
    publication = Publication(tmp_path, Publish())
    publication.ask("operator")
    then = publication.carry_out(publication.intent(Process()), trained, HEADER)
    expected = trained.engine.predict_proba("a", X)
    feed(trained, entries([rows(50, 40)], 90))  # training goes on before the writer comes to it
    assert then is not None
    then()
    (outcome,) = publication.outcomes()
    assert (outcome.version, outcome.error) == (1, "")
    model = snapshot.load(outcome.path)
    np.testing.assert_array_equal(model.predict_proba("a", X), expected)
    assert not np.allclose(trained.engine.predict_proba("a", X), expected)


def test_the_manifest_says_what_it_is_and_why(tmp_path: Path, trained: LogMachine) -> None:
    publication = Publication(tmp_path, Publish())
    publication.ask("operator")
    outcome = _published(publication, trained, publication.intent(Process()))
    said = releases.manifest(tmp_path / "v000001")
    assert (said["version"], said["reason"], said["epoch"], said["watermark"]) == (
        1,
        "operator",
        2,
        "9-0",
    )
    assert said["step"] == trained.engine.step_count
    assert outcome.scores == said["scores"]
    assert releases.target(tmp_path, "latest") == "v000001"


def test_a_manifest_that_is_no_json_is_a_failure_that_is_told(
    tmp_path: Path, trained: LogMachine
) -> None:
    intent = {"version": 1, "reason": float("nan")}
    outcome = _published(Publication(tmp_path, Publish()), trained, intent)
    assert "not JSON compliant" in outcome.error
    assert releases.catalogue(tmp_path) == []


def test_without_being_asked_there_is_no_intent(tmp_path: Path, trained: LogMachine) -> None:
    publication = Publication(tmp_path, Publish())
    assert not publication.is_due
    assert publication.intent(Process()) is None
    assert publication.carry_out(None, trained, HEADER) is None


def test_an_intent_is_taken_once_and_numbers_rise_above_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "v000041").mkdir()
    publication, process = Publication(tmp_path, Publish()), Process()
    publication.ask("operator")
    assert publication.intent(process) == {"version": 42, "reason": "operator"}
    assert (publication.intent(process), process.next_version) == (None, 43)
    publication.ask("again")
    assert publication.intent(process) == {"version": 43, "reason": "again"}


@pytest.mark.parametrize("wanted", [True, False])
def test_a_switch_publishes_where_the_settings_say_so(tmp_path: Path, wanted: bool) -> None:
    publication = Publication(tmp_path, Publish(on_switch=wanted))
    publication.after_switch()
    assert publication.is_due is wanted


def test_an_intent_carried_out_again_after_a_crash_adopts_what_is_there(
    tmp_path: Path, trained: LogMachine
) -> None:
    publication = Publication(tmp_path, Publish())
    intent = {"version": 1, "reason": "operator"}
    first = _published(publication, trained, intent)
    written = (tmp_path / "v000001" / "model.safetensors").stat().st_ino
    (tmp_path / "latest").unlink()  # it died before the alias
    (tmp_path / "v000001.tmp").mkdir()
    again = _published(publication, trained, intent)
    assert (again.path, again.error) == (first.path, "")
    assert (tmp_path / "v000001" / "model.safetensors").stat().st_ino == written
    assert releases.target(tmp_path, "latest") == "v000001"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_directory_of_that_number_with_other_content_is_left_alone(
    tmp_path: Path, trained: LogMachine
) -> None:
    publication = Publication(tmp_path, Publish())
    _published(publication, trained, {"version": 1, "reason": "one"})
    before = (tmp_path / "v000001" / "model.safetensors").read_bytes()
    feed(trained, entries([rows(50, 40)], 90))
    outcome = _published(publication, trained, {"version": 1, "reason": "two"})
    assert "other content" in outcome.error
    assert (tmp_path / "v000001" / "model.safetensors").read_bytes() == before


def test_the_newest_are_kept_and_latest_points_to_the_last(
    tmp_path: Path, trained: LogMachine
) -> None:
    publication, process = Publication(tmp_path, Publish(keep=2)), Process()
    for _ in range(4):
        publication.ask("operator")
        _published(publication, trained, publication.intent(process))
    assert sorted(path.name for path in tmp_path.glob("v*")) == ["v000003", "v000004"]
    assert releases.target(tmp_path, "latest") == "v000004"


def _asked(publication: Publication, one: LogMachine, held: str = "") -> Published:
    publication.ask("operator")
    intent = publication.intent(Process())
    assert intent is not None
    publication.judge(intent, one, held)
    return _published(publication, one, intent)


def test_the_first_snapshot_becomes_champion_and_its_manifest_says_on_what_grounds(
    tmp_path: Path, trained: LogMachine
) -> None:
    outcome = _asked(Publication(tmp_path, Publish(), Gate(min_rows=1)), trained)
    verdict = releases.manifest(tmp_path / "v000001")["verdict"]
    assert outcome.verdict == verdict
    assert (verdict["decision"], verdict["against"]) == ("promoted", None)
    assert verdict["not_judged"] == ["a"]
    assert releases.target(tmp_path, "champion") == "v000001"


def test_a_snapshot_in_which_a_task_fell_is_published_and_not_promoted(
    tmp_path: Path, trained: LogMachine
) -> None:
    publication = Publication(tmp_path, Publish(), Gate(min_rows=1))
    feed(trained, entries([varied(4 * k) for k in range(100)], 200))
    _asked(publication, trained)
    feed(trained, entries([spoilt(4000 + 4 * k) for k in range(150)], 500))
    outcome = _asked(publication, trained)
    assert outcome.verdict is not None
    assert outcome.verdict["decision"] == "refused"
    assert outcome.verdict["against"] == 1
    assert "a " in outcome.verdict["reason"]
    assert releases.target(tmp_path, "latest") == "v000002"
    assert releases.target(tmp_path, "champion") == "v000001"


def test_what_the_guard_holds_back_is_not_promoted(tmp_path: Path, trained: LogMachine) -> None:
    outcome = _asked(Publication(tmp_path, Publish(), Gate()), trained, "a fell")
    assert outcome.verdict is not None
    assert (outcome.verdict["decision"], outcome.verdict["reason"]) == ("held", "a fell")
    assert releases.target(tmp_path, "champion") is None


def test_a_champion_that_cannot_be_read_holds_promotions_until_somebody_looks(
    tmp_path: Path, trained: LogMachine
) -> None:
    publication = Publication(tmp_path, Publish(), Gate())
    _asked(publication, trained)
    (tmp_path / "v000001" / "manifest.json").write_bytes(b"nothing")
    outcome = _asked(publication, trained)
    assert outcome.verdict is not None
    assert outcome.verdict["decision"] == "held"
    assert "mtld snapshot verify champion" in outcome.verdict["reason"]


def test_a_disk_that_refuses_is_an_outcome_and_not_a_crash(
    tmp_path: Path, trained: LogMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publication = Publication(tmp_path, Publish())
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "write", full)
        outcome = _published(publication, trained, {"version": 1, "reason": "operator"})
    assert "No space left" in outcome.error
    assert releases.target(tmp_path, "latest") is None
    assert publication.outcomes() == []
