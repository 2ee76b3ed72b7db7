"""The parts of a task switch add up, and what waits for rows is not the daemon's."""

from __future__ import annotations

import pytest
import switch

LINE = {
    "switch": "1-0", "after": "3-0",
    "begun_monotonic_s": 10.002, "applied_s": 0.008, "at_monotonic_s": 10.03,
}  # fmt: skip


def read(rows_came_s: float, *, back: bool = False) -> switch.Switch:
    return switch.read(LINE, {"1-0": 10.0, "3-0": rows_came_s}, back=back)


def test_the_parts_of_a_switch_add_up_to_its_latency() -> None:
    one = read(10.015)
    assert one.latency_ms == pytest.approx(30)
    assert one.parts_ms == pytest.approx(
        {"until_read": 2, "applying": 8, "waiting_for_rows": 5, "until_stepped": 15}
    )
    assert one.stall_ms == pytest.approx(23)


@pytest.mark.parametrize("came_s", [9.0, 10.001, 10.01])
def test_rows_that_came_before_the_switch_was_applied_were_not_waited_for(came_s: float) -> None:
    assert read(came_s).parts_ms["waiting_for_rows"] == pytest.approx(0)
    assert read(came_s).latency_ms == pytest.approx(30)


def test_the_sender_may_learn_of_an_entry_after_the_daemon_has_used_it() -> None:
    one = read(10.031)
    assert one.parts_ms["until_stepped"] == pytest.approx(0)
    assert one.latency_ms == pytest.approx(30)


def test_a_backlog_has_no_latency() -> None:
    switches = [read(10.015), read(10.01, back=True)]
    paced = switch.told(switches, switch.Case(32, 3000.0))
    assert paced["latency_ms"] == {"median": 30, "p90": 30, "max": 30}
    assert paced["within_bar"]
    assert "latency_ms" not in switch.told(switches, switch.Case(32, 0.0))
