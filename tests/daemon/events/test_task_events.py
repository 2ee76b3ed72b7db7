"""Task events: a subject and a small JSON object that holds what its type allows."""

from __future__ import annotations

import pytest

from daemon.errors import BadEvent
from daemon.events import parse
from daemon.events.document import MAX_DOCUMENT_BYTES
from daemon.events.task_add import TaskAdd
from daemon.events.task_retire import TaskRetire
from daemon.events.task_switch import TaskSwitch
from daemon.events.task_update import TaskUpdate
from daemon.types import Event, Limits
from tests.support.raw import Fields, entry, task_event

VERBS = ["add", "switch", "update", "retire"]


def parsed(found: Fields) -> Event:
    """The event in these fields."""
    return parse(entry(found), Limits())


def refusal(verb: str, document: object, **attributes: str) -> str:
    """The reason for which a document is refused."""
    with pytest.raises(BadEvent) as caught:
        parsed(task_event(verb, "digits", document, **attributes))
    return caught.value.reason


@pytest.mark.parametrize("verb", VERBS)
def test_a_task_event_names_its_task(verb: str) -> None:
    with pytest.raises(BadEvent) as caught:
        parsed(task_event(verb, None, {"share": 1.0}))
    assert caught.value.reason == "missing_subject"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("document", "reason"), [("[]", "not_an_object"), ("{", "bad_json"), (b"\xff", "invalid_utf8")]
)
def test_a_document_is_a_json_object(verb: str, document: str, reason: str) -> None:
    assert refusal(verb, document) == reason


@pytest.mark.parametrize("verb", VERBS)
def test_a_document_has_its_own_size_limit_and_content_type(verb: str) -> None:
    assert refusal(verb, " " * MAX_DOCUMENT_BYTES + "{}") == "oversized"
    assert (
        refusal(verb, "{}", datacontenttype="application/vnd.safetensors") == "unknown_content_type"
    )


def test_a_specification_takes_its_name_from_the_subject() -> None:
    event = parsed(task_event("add", "digits", {"modality": "image", "name": "digits"}))
    assert isinstance(event, TaskAdd)
    assert event.spec == {"modality": "image", "name": "digits"}
    assert isinstance(parsed(task_event("add", "digits", b"")), TaskAdd)


@pytest.mark.parametrize(
    "document",
    [
        {"classes": 5},
        {"classes": None},
        {"classes": "abc"},
        {"classes": [["a"]]},
        {"classes": [True]},
        {"classes": [1.5]},
        {"classes": [-1]},
        {"classes": [2**31]},
        {"classes": ["a" * 257]},
        {"input_shape": 28},
        {"input_shape": [28.0]},
        {"input_shape": [[28]]},
        {"encoder": 3},
        {"encoder": []},
        {"encoder": {}},
        {"encoder": "os:system"},
        {"encoder": {"name": "pkg.mod:Class"}},
        {"encoder": {"name": ["mlp"]}},
    ],
)
def test_a_value_of_the_wrong_form_is_refused_before_the_engine_sees_it(document: object) -> None:
    assert refusal("add", document) == "bad_task"


@pytest.mark.parametrize(
    "document",
    [
        {"classes": ["a", "b"], "input_shape": [28, 28], "encoder": "mlp"},
        {"classes": [], "input_shape": None, "encoder": {"name": "table", "categorical": [0]}},
    ],
)
def test_a_value_of_the_right_form_is_left_to_the_engine(document: dict[str, object]) -> None:
    event = parsed(task_event("add", "digits", document))
    assert isinstance(event, TaskAdd)
    assert event.spec == {**document, "name": "digits"}


def test_another_name_than_the_subject_is_refused() -> None:
    assert refusal("add", {"name": "letters"}) == "name_mismatch"
    assert refusal("add", {"name": None}) == "name_mismatch"


@pytest.mark.parametrize(
    ("document", "phase"), [(b"", None), ({}, None), ({"phase": "ä b"}, "ä b")]
)
def test_a_switch_may_name_a_phase(document: object, phase: str | None) -> None:
    event = parsed(task_event("switch", "digits", document))
    assert isinstance(event, TaskSwitch)
    assert (event.task, event.phase) == ("digits", phase)


@pytest.mark.parametrize("phase", ["", "a" * 129, "a\nb", 3, ["a"]])
def test_a_phase_is_a_short_printable_text(phase: object) -> None:
    assert refusal("switch", {"phase": phase}) == "bad_phase"


def test_an_update_changes_numbers() -> None:
    event = parsed(task_event("update", "digits", {"share": 2, "min_share": 0.1}))
    assert isinstance(event, TaskUpdate)
    assert event.changes == {"share": 2.0, "min_share": 0.1}


@pytest.mark.parametrize("value", ["2", True, None, [1], -1, -0.5])
def test_an_update_with_anything_else_is_refused(value: object) -> None:
    assert refusal("update", {"share": value}) == "bad_update"


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400])
def test_an_update_beyond_any_float_is_refused(number: str) -> None:
    assert refusal("update", f'{{"share": {number}}}') == "bad_update"


def test_an_update_may_change_how_a_task_decides() -> None:
    event = parsed(task_event("update", "digits", {"share": 2, "decision": "prior"}))
    assert isinstance(event, TaskUpdate)
    assert event.changes == {"share": 2.0, "decision": "prior"}


@pytest.mark.parametrize("value", ["priors", "", 1, None, ["prior"]])
def test_a_decision_that_is_no_known_word_is_refused(value: object) -> None:
    assert refusal("update", {"decision": value}) == "bad_update"


def test_an_update_says_what_changes() -> None:
    assert refusal("update", {}) == "bad_update"
    assert refusal("update", {"holdout": 0.5}) == "unknown_key"


def test_a_retirement_says_nothing_more() -> None:
    assert isinstance(parsed(task_event("retire", "digits", {})), TaskRetire)
    assert refusal("retire", {"force": True}) == "unknown_key"
