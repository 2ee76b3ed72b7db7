"""The daemon's side of a command: nothing that was typed reaches the loop unless it fits, and nothing is left unanswered."""

from __future__ import annotations

import subprocess
import sys

import pytest

from daemon.commands.handlers import HANDLERS, apply
from daemon.errors import Refused
from daemon.types import Json, Request


class Loop:
    """Answers every command with its name; a checkpoint by itself, a drain never."""

    def pause(self, request: Request) -> Json | None:
        return {"did": "pause", **request.args}

    def drain(self, request: Request) -> Json | None:
        raise Refused(f"not {request.name} now")

    def checkpoint(self, request: Request) -> Json | None:
        request.reply({"did": request.name})

    def publish(self, request: Request) -> Json | None:
        return {"did": request.name}

    resume = tasks = score = accept = promote = demote = evaluate = publish

    def roll_back(self, request: Request) -> Json | None:
        return {"did": request.name}


def replies(name: str, args: Json | None = None) -> list[Json]:
    found: list[Json] = []
    apply(Loop(), Request(name, args or {}, found.append))
    return found


NEEDED: dict[str, Json] = {
    "rollback": {"seq": 7},
    "promote": {"name": "v000007"},
    "accept": {"task": "a"},
}


@pytest.mark.parametrize("name", sorted(set(HANDLERS) - {"drain"}))
def test_every_command_reaches_its_method_and_is_answered_once(name: str) -> None:
    (reply,) = replies(name, {"by": "olga", **NEEDED.get(name, {})})
    assert reply["did"] == name


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_command_cannot_do_without_is_asked_for(name: str) -> None:
    (reply,) = replies(name)
    assert "needs" in reply["error"]
    assert reply["exit_code"] == 2


@pytest.mark.parametrize(
    "skips", [[1], [["5-0"]], [["5-0", 9]], [["5-0", "now"]], ["5-0"], [["5-0", "6-0", "7-0"]]]
)
def test_a_stretch_of_the_log_is_two_ids(skips: list[object]) -> None:
    (reply,) = replies("rollback", {"seq": 7, "skips": skips})
    assert "each is two ids of the log" in reply["error"]
    assert replies("rollback", {"seq": 7, "skips": [["5-0", "9-3"]]})[0]["did"] == "rollback"


def test_arguments_are_passed_on() -> None:
    args = {"reason": "disk", "until": "2030-01-31T08:00:00Z"}
    assert replies("pause", args) == [{"did": "pause", **args}]


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("pause", {"raeson": "x"}, "takes reason, until, by, not 'raeson'"),
        ("pause", {"reason": 3}, "pause.reason is 3; it must be str"),
        ("pause", {"until": "tomorrow"}, "must be a time with its zone"),
        ("pause", {"until": "2030-01-31T08:00:00"}, "must be a time with its zone"),
        ("pasue", {}, "did you mean 'pause'?"),
        ("", {}, "known are pause, resume, drain, checkpoint, publish, score"),
    ],
)
def test_what_does_not_fit_is_refused_and_never_reaches_the_loop(
    name: str, args: Json, says: str
) -> None:
    (reply,) = replies(name, args)
    assert says in reply["error"]
    assert reply["exit_code"] == 2


def test_what_the_loop_refuses_is_the_answer_and_not_an_exception() -> None:
    assert replies("drain") == [{"error": "not drain now", "exit_code": 7}]


def test_the_training_process_imports_no_command_line_library() -> None:
    code = "import sys, daemon.commands.handlers; sys.exit('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
