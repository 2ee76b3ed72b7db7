"""What follows from scores in the state machine: the operator's acceptance, which no producer can say."""

from __future__ import annotations

from typing import Any

from daemon.events.control import decision
from daemon.machine import LogMachine
from tests.support.core import add_task, entries, entry, feed, machine, recovered, state_of
from tests.support.spoilt import spoilt, varied


def fallen() -> LogMachine:
    """A machine whose task fell: good rows, an evaluation, permuted labels, another evaluation."""
    one = machine()
    feed(one, entries([add_task(holdout=0.4), *[varied(4 * k) for k in range(80)]]))
    feed(one, entries([decision("evaluate", 1, "1-0", {})], 100))
    feed(one, entries([spoilt(4000 + 4 * k) for k in range(60)], 200))
    feed(one, entries([decision("evaluate", 1, "2-0", {})], 300))
    assert one.guard.fallen
    return one


def say(one: LogMachine, number: int, **detail: Any) -> list[str]:
    """A control entry `accept` at this place; the kinds and reasons that it left in the outbox."""
    before = len(one.outbox.up_to(10**9))
    one.enter(entry(decision("accept", 1, f"{number}-0", detail), f"{number}-0"))
    told = one.outbox.up_to(10**9)[before:]
    return [str(item.body.get("kind") or item.body.get("reason")) for item in told]


def test_what_the_operator_accepts_is_no_fall_any_more_and_stands_in_the_journal() -> None:
    one = fallen()
    proof = one.judgement.acceptance("a", "300-0")
    assert say(one, 301, task="a", at="300-0", proof=proof) == ["level_accepted"]
    assert not one.guard.fallen
    assert one.judgement.accepted == {"a": "301-0"}


def test_a_producer_can_neither_invent_an_acceptance_nor_say_one_again() -> None:
    one = fallen()
    assert say(one, 301, task="a", at="300-0", proof="0" * 32) == ["foreign_control"]
    assert one.guard.fallen
    proof = one.judgement.acceptance("a", "300-0")
    say(one, 302, task="a", at="300-0", proof=proof)
    assert say(one, 303, task="a", at="300-0", proof=proof) == ["foreign_control"]
    assert say(one, 304, task="a", at="not an id", proof=proof) == ["foreign_control"]
    assert say(one, 305, task="nobody", at="304-0", proof=proof) == ["unknown_task"]
    assert one.judgement.accepted == {"a": "302-0"}


def test_a_state_goes_on_with_what_fell_and_what_was_accepted() -> None:
    one, again = fallen(), machine()
    say(one, 301, task="a", at="300-0", proof=one.judgement.acceptance("a", "300-0"))
    cut = recovered(state_of(one))
    own = {
        name.partition("/")[2]: v for name, v in cut.tensors.items() if name.startswith("machine/")
    }
    again.load_state(own, cut.meta["machine"])
    assert again.judgement.state()[1] == one.judgement.state()[1]
    assert again.judgement.accepted == {"a": "301-0"}
