"""Who sent what: names of producers become numbers, and the report says by name whose rows the model finds wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from daemon import cut as cutting
from daemon.config import Stream
from daemon.senders import OTHER, SenderNames
from mtl_engine.senders import LARGEST_NUMBER, suspects
from mtl_engine.types import Rows
from tests.support.core import (
    add_task,
    differences,
    entries,
    feed,
    fields,
    machine,
    recovered,
    state_of,
)

if TYPE_CHECKING:
    from daemon.machine import LogMachine
    from tests.support.core import Fields

ROWS = 12  # of an event
BATCH = 4


def number_of(names: SenderNames, source: str) -> int:
    origin = names.marked(Rows("t", np.zeros((2, 1), np.float32)), source).origin
    assert origin is not None
    assert origin.dtype == np.int32
    [number] = set(origin.tolist())
    return number


def event(number: int, source: str, *, exchanged: bool) -> Fields:
    """Rows of three classes that lie apart; `exchanged` gives each the label of another class."""
    draw = np.random.default_rng(number)
    true = draw.integers(0, 3, ROWS)
    x = np.eye(3)[true] * 2 + draw.normal(size=(ROWS, 3)) * 0.1
    y = (true + exchanged) % 3
    data: Any = {"x": x.tolist(), "y": y.tolist()}
    return fields("mtl.data.v1", "a", id=f"row {number}", source=source, data=data, mtlrows=ROWS)


def story(count: int) -> list[Fields]:
    """Two of three events come from `lab`, which starts anew now and then; the others from `shed`, wrongly labelled."""
    made = [add_task(holdout=0.1)]
    for number in range(count):
        is_bad = number % 3 == 2
        source = "shed/1" if is_bad else f"lab/{number // 50}"
        made.append(event(number, source, exchanged=is_bad))
    return made


def fed(made: list[Fields]) -> LogMachine:
    one = machine(Stream(batch_size=BATCH))
    feed(one, entries(made))
    return one


def test_the_report_tells_two_sources_apart_and_the_one_with_wrong_labels_is_named() -> None:
    one = fed(story(400))
    told = one.judgement.senders_report()["a"]
    assert set(told) == {"lab", "shed"}
    assert told["lab"]["score"] > 0.7
    assert told["shed"]["score"] < 0.3
    assert suspects(told) == ["shed"]


def test_two_sources_that_agree_are_both_left_alone() -> None:
    made = [add_task()]
    made += [event(number, f"{'ab'[number % 2]}/1", exchanged=False) for number in range(300)]
    told = fed(made).judgement.senders_report()["a"]
    assert set(told) == {"a", "b"}
    assert suspects(told) == []


def test_a_machine_that_comes_back_from_a_checkpoint_counts_on_as_if_it_had_not_gone() -> None:
    made = story(120)
    one = fed(made[:71])
    assert len(one.batcher) > 0
    again = machine(Stream(batch_size=BATCH))
    cutting.restore(recovered(state_of(one)), again)
    assert again.judgement.senders_report() == one.judgement.senders_report()
    feed(again, entries(made[71:], 72))
    whole = fed(made)
    assert differences(recovered(state_of(again)), recovered(state_of(whole))) == []
    assert again.judgement.senders_report() == whole.judgement.senders_report()


def test_a_checkpoint_from_before_senders_were_told_is_taken_over() -> None:
    old = recovered(state_of(fed(story(20))))
    del old.meta["machine"]["senders"], old.meta["engine"]["senders"]
    old.tensors.pop("machine/pending-0/origin", None)
    again = machine(Stream(batch_size=BATCH))
    cutting.restore(old, again)
    assert again.judgement.senders_report() == {}
    feed(again, entries([event(n, "late/1", exchanged=False) for n in range(50, 90)], 30))
    assert set(again.judgement.senders_report()["a"]) == {"late"}


def test_a_name_is_what_comes_before_the_slash_and_numbers_follow_first_appearance() -> None:
    names = SenderNames()
    sources = ["b/1", "a/1", "b/2", "plain", "a"]
    assert [number_of(names, source) for source in sources] == [0, 1, 0, 2, 1]
    other = SenderNames()
    other.load_state(names.state())
    assert number_of(other, "plain/7") == 2
    assert other.state() == ["b", "a", "plain"]


def test_senders_beyond_the_bound_are_counted_together() -> None:
    names = SenderNames()
    for number in range(LARGEST_NUMBER):
        assert number_of(names, f"s{number}/1") == number
    assert number_of(names, "late/1") == number_of(names, "later/1") == LARGEST_NUMBER
    assert len(names.state()) == LARGEST_NUMBER
    told = names.named({"a": {0: {"rows": 1}, LARGEST_NUMBER: {"rows": 2}}})
    assert told == {"a": {"s0": {"rows": 1}, OTHER: {"rows": 2}}}


def test_a_sender_that_is_called_like_the_rest_is_counted_with_it() -> None:
    names = SenderNames()
    assert number_of(names, f"{OTHER}/1") == LARGEST_NUMBER
    assert names.state() == []


def test_a_refused_event_gives_its_sender_no_number() -> None:
    bad = fields("mtl.data.v1", "nobody", id="1", source="bad/1", data={"x": [[1.0]], "y": [1]})
    one = fed([add_task(), bad, event(1, "good/1", exchanged=False)])
    assert one.senders.state() == ["good"]
