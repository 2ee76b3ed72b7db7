"""`mtld snapshot list|show|verify`: what users can load, where it comes from, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from daemon import releases, vitals
from tests.daemon.commands.conftest import Mtld
from tests.support.scorecards import CONFUSED, SHIRTS, card, verdict


@pytest.fixture(autouse=True)
def models(state: Path) -> Path:
    root = state / "models"
    for version in (1, 2):
        path = root / f"v{version:06d}"
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"weights")
        said = {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}
        manifest = {
            "version": version, "at": vitals.now(), "step": version * 10, "epoch": 1, "watermark": "5-0",
            "scores": {"fashion": {"accuracy": 0.8125}}, "files": {"model.safetensors": said},
        }  # fmt: skip
        (path / "manifest.json").write_text(json.dumps(manifest))
        releases.point(root, "latest", path.name)
        releases.promote(root, path.name)
    return root


def test_the_list_says_what_points_where_and_how_good_it_is(mtld: Mtld) -> None:
    found = mtld("snapshot", "list", "-o", "json").json
    assert [(one["version"], one["aliases"]) for one in found] == [
        (2, ["latest", "champion"]),
        (1, ["previous"]),
    ]
    shown = mtld("snapshot", "list").out.splitlines()
    assert "latest" in shown[1]
    assert shown[1].endswith("fashion 0.812")


def test_the_list_says_what_the_gate_decided_and_on_how_many_tasks(
    mtld: Mtld, models: Path
) -> None:
    path = models / "v000002" / "manifest.json"
    verdict = {
        "decision": "promoted",
        "against": 1,
        "not_judged": ["mood"],
        "tasks": {"mood": {}, "fashion": {}},
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": verdict}))
    _, newest, first = mtld("snapshot", "list").out.splitlines()
    assert newest.endswith("promoted  1 of 2  fashion 0.812")
    assert first.endswith("-         -       fashion 0.812"), "the gate was not asked"


@pytest.mark.parametrize(
    ("name", "version"), [((), 2), (("previous",), 1), (("v000001",), 1), (("2",), 2)]
)
def test_one_is_shown_by_any_of_its_names(mtld: Mtld, name: tuple[str, ...], version: int) -> None:
    found = mtld("snapshot", "show", *name, "-o", "json").json
    assert (found["version"], found["watermark"]) == (version, "5-0")
    shown = mtld("snapshot", "show", *name).out
    assert "fashion  accuracy 0.812" in shown
    assert "file        model.safetensors, 7 B" in shown


def test_a_score_that_is_not_defined_has_no_number(mtld: Mtld, models: Path) -> None:
    path = models / "v000002" / "manifest.json"
    path.write_text(path.read_text().replace("0.8125", "NaN"))  # as an earlier version wrote it
    assert mtld("snapshot", "list").out.splitlines()[1].endswith("fashion -")
    shown = mtld("snapshot", "show", "-o", "json")
    assert "NaN" not in shown.out
    assert shown.json["scores"] == {"fashion": {"accuracy": None}}


def _say(models: Path, version: int, **more: Any) -> None:
    path = models / f"v{version:06d}" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def test_json_is_the_whole_manifest_with_scorecards(mtld: Mtld, models: Path) -> None:
    told = {"scorecards": {"fashion": card(SHIRTS, CONFUSED)}, "verdict": verdict()}
    _say(models, 2, **told)
    found = mtld("snapshot", "show", "-o", "json").json
    assert {name: found[name] for name in told} == told
    manifest = json.loads((models / "v000002" / "manifest.json").read_text())
    assert found.items() >= manifest.items()


def test_a_task_is_told_with_its_probabilities_and_its_worst_class(
    mtld: Mtld, models: Path
) -> None:
    _say(
        models, 2, scores={"fashion": {"accuracy": 0.8125, "macro_recall": 0.854}},
        probabilities={"fashion": {"decision": "prior", "ece": {"value": 0.0214, "interval": [0.01, 0.03]}}},
        scorecards={"fashion": card(SHIRTS, CONFUSED)},
    )  # fmt: skip
    (line,) = (one for one in mtld("snapshot", "show").out.splitlines() if one.startswith("fashion"))  # fmt: skip
    assert line.split() == ["fashion", "accuracy", "0.812", "0.854", "0.021", "prior", "0.656", "shirt"]  # fmt: skip


def test_a_refusal_names_what_is_down_what_was_not_judged_and_what_to_do(
    mtld: Mtld, models: Path
) -> None:
    _say(models, 2, verdict=verdict())
    told = " ".join(mtld("snapshot", "show").out.split())
    for part in (
        "verdict refused, against v000006: mood 0.8420",
        "judged mood DOWN: score 0.842, best 0.913, tolerance 0.01, rows 288; "
        "31 rows answered worse than by the other, 2 better",
        "judged fashion within: ",
        "not judged price: the champion does not know it",
        "`mtld task accept mood`; if the rows are wrong: `mtld rollback`",
        "`mtld snapshot promote v000002 --force`",
    ):
        assert part in told
    assert "task accept fashion" not in told


def test_a_verdict_of_a_build_before_has_no_flipped_rows_and_is_told_all_the_same(
    mtld: Mtld, models: Path
) -> None:
    old = {"score": 0.9, "best": 0.91, "tolerance": 0.02, "rows": 50, "is_within": True}
    _say(models, 2, verdict={"decision": "promoted", "reason": "fine", "tasks": {"fashion": old}})
    out = mtld("snapshot", "show").out
    assert "judged      fashion within: score 0.9, best 0.91, tolerance 0.02, rows 50\n" in out
    assert "do next" not in out


def test_an_unknown_one_is_refused(mtld: Mtld) -> None:
    result = mtld("snapshot", "show", "previous-one")
    assert result.code == 7
    assert "there are: v000002, v000001" in result.err


def test_a_flipped_bit_exits_8(mtld: Mtld, models: Path) -> None:
    assert mtld("snapshot", "verify").code == 0
    (models / "v000001" / "model.safetensors").write_bytes(b"weightz")
    assert mtld("snapshot", "verify").code == 8
    assert mtld("snapshot", "verify", "latest").code == 0


def test_nothing_yet_is_not_an_error(mtld: Mtld, tmp_path: Path) -> None:
    assert mtld("snapshot", "list", "--state", tmp_path / "new").out == "no snapshot yet\n"
