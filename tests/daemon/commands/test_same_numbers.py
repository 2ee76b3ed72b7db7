"""One evaluation, the same numbers everywhere: metrics, status, top and the page read nothing else, however old the rest is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import vitals
from daemon.types import Vitals
from daemon.web.answers import Answers
from daemon.web.history import History
from tests.daemon.commands.conftest import Mtld
from tests.support.evaluated import evaluation, of_task

if TYPE_CHECKING:
    from daemon.types import Json

AGE_S = 130  # of the digits; the mood was scored at another time
OLD = 0.111  # which nothing may show: last switch, matrix, snapshot


@pytest.fixture
def told(tell: Callable[..., Vitals]) -> Json:
    """Vitals whose every number is another one; returns the evaluation."""

    def ago(seconds: float) -> str:
        return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()

    tasks = {
        "digits": of_task(
            at=ago(AGE_S), rows=243, score=0.9712, macro_recall=0.9634, forgetting=0.0145, min_acc=0.9017,
            worst={"class": "8", "recall": 0.8519, "rows": 21},
        ),
        "mood": of_task(
            at=ago(4000), rows=571, score=0.7223, macro_recall=0.7041, forgetting=0.0267, min_acc=0.6689,
            worst={"class": "bad", "recall": 0.6371, "rows": 88},
        ),
    }  # fmt: skip
    found = evaluation(
        at=ago(AGE_S), average=0.8468, forgetting=0.0206, min_acc=0.7853, wc_acc=0.7762, tasks=tasks
    )
    parts = dict.fromkeys(tasks, OLD)
    tell(
        tasks=[{"name": name, "replay_rows": 7, "scores": {"accuracy": OLD}} for name in tasks],
        evaluation=found, scores=parts, snapshot={"version": 3, "at": ago(9), "scores": parts},
        matrix={"rows": [{"step": 1, "task": "digits", "phase": None, "parts": parts}], "average_accuracy": OLD,
                "forgetting": OLD, "bwt": OLD, "best": parts, "min_acc": parts},
    )  # fmt: skip
    return found


@pytest.fixture
def page(state: Path) -> Answers:
    """What a sidecar answers."""
    return Answers(state, History(state / "history.jsonl", pytest.fail), list)


def answered(page: Answers, path: str) -> str:
    found = page.to(path)
    assert found is not None
    return found.body.decode()


def metrics(page: Answers) -> Callable[..., float]:
    """Reads one sample of a scrape."""
    samples = {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(answered(page, "/metrics"))
        for one in family.samples
    }
    return lambda name, **labels: samples[f"mtld_{name}", frozenset(labels.items())]


def row(text: str, task: str) -> list[str]:
    """The line of a task in a table, as words."""
    (found,) = [line.split() for line in text.splitlines() if line.startswith(f"{task} ")]
    return found


def test_metrics_status_top_and_page_show_the_numbers_of_the_newest_evaluation(
    mtld: Mtld, page: Answers, told: Json
) -> None:
    of = metrics(page)
    as_json, served = mtld("status", "-o", "json").json, json.loads(answered(page, "/api/status"))
    status, top = mtld("status").out, mtld("top", "--once").out
    assert as_json["evaluation"] == served["evaluation"] == mtld("top", "-o", "json").json["evaluation"] == told  # fmt: skip
    for name, one in told["tasks"].items():
        by_metric = {
            "score": one["score"], "score_rows": one["rows"], "macro_recall": one["macro_recall"],
            "worst_recall": one["worst"]["recall"], "forgetting": one["forgetting"], "min_score": one["min_acc"],
            "score_timestamp_seconds": vitals.unix_s(one["at"]),
        }  # fmt: skip
        assert {key: of(key, task=name) for key in by_metric} == pytest.approx(by_metric)
        shown = [f"{one[key]:.3f}" for key in ("score", "macro_recall")]
        shown += [f"{one['worst']['recall']:.3f}", one["worst"]["class"], str(one["rows"])]
        age = "2 min" if name == "digits" else "67 min"
        for text in (status, top):
            assert set(shown + age.split()) <= set(row(text, name))
    overall = {"average": "average_score", "forgetting": "average_forgetting", "wc_acc": "worst_case_score"}  # fmt: skip
    assert {key: of(name) for key, name in overall.items()} == {key: told[key] for key in overall}
    assert of("evaluation_timestamp_seconds") == pytest.approx(vitals.unix_s(told["at"]))
    line = "average 0.847, forgot 0.021, min-ACC 0.785, WC-ACC 0.776; 2 min ago"
    assert all(re.search(f"^scores +{re.escape(line)}$", text, re.MULTILINE) for text in (status, top))  # fmt: skip


def test_what_is_older_than_the_evaluation_is_shown_nowhere(
    mtld: Mtld, page: Answers, told: Json, state: Path
) -> None:
    texts = [mtld("status").out, mtld("top", "--once").out, answered(page, "/metrics")]
    assert [text for text in texts if str(OLD) in text] == []
    seen = vitals.read(state / vitals.NAME)
    assert seen is not None
    point: Any = History(state / "history.jsonl", pytest.fail).look(seen)
    assert (point["average_accuracy"], point["forgetting"]) == (told["average"], told["forgetting"])
    assert point["score"] == {name: one["score"] for name, one in told["tasks"].items()}


def test_a_vitals_file_of_before_has_no_numbers_and_breaks_nothing(
    mtld: Mtld, page: Answers, state: Path, tell: Callable[..., Vitals]
) -> None:
    tell(tasks=[{"name": "digits"}], scores={"digits": OLD})
    path = state / vitals.NAME
    older = json.loads(path.read_text())
    for name in ("evaluation", "guard", "senders", "skips"):
        del older[name]
    path.write_text(json.dumps(older))
    assert "scores      none yet" in mtld("status", "--check").out
    assert row(mtld("top", "--once").out, "digits")[1] == "-"
    assert "mtld_score{" not in answered(page, "/metrics")
    assert json.loads(answered(page, "/api/status"))["evaluation"] == {}
