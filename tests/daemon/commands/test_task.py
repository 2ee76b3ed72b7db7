"""`mtld task list|show`: what the daemon's last vitals know, whether or not it runs."""

from __future__ import annotations

from collections.abc import Callable

from daemon.types import Vitals
from tests.daemon.commands.conftest import Mtld

TASKS = [
    {
        "name": "fashion",
        "modality": "image",
        "kind": "classification",
        "columns": 10,
        "replay_rows": 1234,
        "share": 1.0,
    },
    {"name": "price", "modality": "table", "kind": "regression", "columns": 1, "replay_rows": 5},
]


def test_tasks_are_listed_and_the_one_in_focus_is_marked(
    mtld: Mtld, tell: Callable[..., Vitals]
) -> None:
    tell(tasks=TASKS, task="fashion", pid=0)
    assert [one["name"] for one in mtld("task", "list", "-o", "json").json] == ["fashion", "price"]
    lines = mtld("task", "list").out.splitlines()
    assert lines[1].startswith("fashion *")
    assert lines[2].split() == ["price", "table", "regression", "1", "5"]


def test_one_task_is_shown_whole(mtld: Mtld, tell: Callable[..., Vitals]) -> None:
    tell(tasks=TASKS)
    assert mtld("task", "show", "fashion", "-o", "json").json == TASKS[0]
    assert "share       1" in mtld("task", "show", "fashion").out


def test_a_task_that_is_not_there_is_answered_with_the_nearest(
    mtld: Mtld, tell: Callable[..., Vitals]
) -> None:
    tell(tasks=TASKS)
    result = mtld("task", "show", "fasion")
    assert result.code == 7
    assert "did you mean 'fashion'?" in result.err


def test_before_any_task_the_list_says_how_to_declare_one(
    mtld: Mtld, tell: Callable[..., Vitals]
) -> None:
    tell()
    assert "mtld task add" in mtld("task", "list").out
    assert "no task is declared yet" in mtld("task", "show", "a").err
