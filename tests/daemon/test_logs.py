"""Log lines: JSON where a machine reads them, columns on a terminal, third parties in the same form."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from daemon import logs
from daemon.config import Log


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()  # pytest's own stay open
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_one_json_object_a_line() -> None:
    out = StringIO()
    logs.configure(Log(), out)
    structlog.get_logger().info("checkpoint", seq=3, path=object)
    (line,) = lines(out)
    assert (line["event"], line["seq"], line["level"]) == ("checkpoint", 3, "info")
    assert line["timestamp"].endswith("Z")


def test_a_terminal_gets_columns() -> None:
    out = Terminal()
    logs.configure(Log(), out)
    structlog.get_logger().info("checkpoint", seq=3)
    assert "checkpoint" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_the_format_can_be_forced() -> None:
    out = Terminal()
    logs.configure(Log(format="json"), out)
    structlog.get_logger().info("checkpoint")
    assert lines(out)[0]["event"] == "checkpoint"


def test_lines_below_the_level_are_left_out() -> None:
    out = StringIO()
    logs.configure(Log(level="warning"), out)
    structlog.get_logger().info("small talk")
    structlog.get_logger().warning("fault", name="broker_down")
    assert [line["event"] for line in lines(out)] == ["fault"]


def test_an_exception_is_part_of_its_line() -> None:
    out = StringIO()
    logs.configure(Log(), out)
    try:
        json.loads("{")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(out)
    assert line["exception"][0]["exc_type"] == "JSONDecodeError"


def test_warnings_of_third_parties_come_in_the_same_form() -> None:
    out = StringIO()
    logs.configure(Log(), out)
    logging.getLogger("apscheduler").warning("late by %s s", 3)
    logging.getLogger("apscheduler").info("small talk")
    assert [line["event"] for line in lines(out)] == ["late by 3 s"]
