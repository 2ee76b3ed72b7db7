"""`mtld snapshot promote|rollback|pin`: with and without a daemon."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from daemon import releases

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon.commands.conftest import Mtld


@pytest.fixture(autouse=True)
def models(state: Path) -> Path:
    root = state / "models"
    for version, decision in ((1, "promoted"), (2, "promoted"), (3, "refused")):
        path = root / f"v{version:06d}"
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"weights")
        said = {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}
        verdict = {
            "decision": decision, "reason": "a 0.5000, best 0.9000", "against": 1,
            "tasks": {"a": {"score": 0.5, "best": 0.9, "tolerance": 0.01, "rows": 40, "is_within": False, "why": ""}},
        }  # fmt: skip
        told = {"version": version, "verdict": verdict, "files": {"model.safetensors": said}}
        (path / "manifest.json").write_text(json.dumps(told))
        releases.point(root, "latest", path.name)
    return root


def champion(models: Path) -> str | None:
    return releases.target(models, "champion")


def test_a_snapshot_is_promoted_and_the_one_before_comes_back_with_one_command(
    mtld: Mtld, models: Path
) -> None:
    assert "champion is v000001, before it was none" in mtld("snapshot", "promote", "1").out
    assert "before it was v000001" in mtld("snapshot", "promote", "2").out
    assert "champion is v000001, no longer v000002" in mtld("snapshot", "rollback").out
    assert champion(models) == "v000001"


def test_a_verdict_is_shown_with_the_numbers_of_each_task(mtld: Mtld) -> None:
    shown = mtld("snapshot", "show", "latest").out.splitlines()
    assert "verdict     refused, against v000001: a 0.5000, best 0.9000" in shown
    assert "judged      a DOWN: score 0.5, best 0.9, tolerance 0.01, rows 40" in shown


def test_what_the_gate_refused_needs_force_and_its_name(mtld: Mtld, models: Path) -> None:
    refused = mtld("snapshot", "promote", "latest")
    assert refused.code == 7
    assert "a 0.5000, best 0.9000" in refused.err
    assert mtld("snapshot", "promote", "latest", "--force").code == 7
    assert champion(models) is None
    assert mtld("snapshot", "promote", "latest", "--force", "--confirm", "v000003").code == 0
    assert champion(models) == "v000003"


def test_dry_runs_change_nothing(mtld: Mtld, models: Path) -> None:
    assert "champion would be v000002" in mtld("snapshot", "promote", "2", "--dry-run").out
    assert mtld("snapshot", "rollback", "--dry-run").code == 7
    assert champion(models) is None


def test_a_pinned_snapshot_stays_until_it_is_unpinned(mtld: Mtld, models: Path) -> None:
    mtld("snapshot", "pin", "1")
    assert releases.pins(models) == ["v000001"]
    assert mtld("snapshot", "unpin", "1", "-o", "json").json == {"version": 1, "pinned": False}
    assert releases.pins(models) == []
