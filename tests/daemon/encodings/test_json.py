"""JSON in: bounded before it is parsed, and strict where the format is loose."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.encodings import json as encoding
from daemon.encodings.json import decode, load_object
from daemon.errors import BadEvent
from daemon.types import Limits, Payload

LIMITS = Limits()


def read(document: object, subject: str | None = "t") -> Payload:
    """The payload of a document."""
    return decode(json.dumps(document, ensure_ascii=False).encode(), subject, LIMITS)


def refusal(text: str | bytes, limits: Limits = LIMITS) -> str:
    """The reason for which a text is refused."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(BadEvent) as caught:
        decode(data, "t", limits)
    return caught.value.reason


def test_numbers_stay_lists_for_the_task_to_take_as_it_needs() -> None:
    found = read({"x": [[1, 2.5], [3, 4]], "y": [7, 8]})
    assert found.x == [[1, 2.5], [3, 4]]
    assert found.labels["t"].y == [7, 8]


def test_an_event_may_name_the_dtype_of_its_numbers() -> None:
    document = {
        "x": [[0, 255]],
        "y": {"p": [2], "q": ["a"]},
        "dtype": {"x": "uint8", "y.p": "float32"},
    }
    found = read(document, None)
    assert isinstance(found.x, np.ndarray)
    assert found.x.dtype == np.uint8
    price = found.labels["p"].y
    assert isinstance(price, np.ndarray)
    assert price.dtype == np.float32
    assert found.labels["q"].y == ["a"]


def test_texts_come_as_objects_so_that_a_long_one_pads_no_other() -> None:
    found = read({"x": ["a" * 100_000, "b"] * 50, "y": ["yes", "nö"] * 50})
    assert isinstance(found.x, np.ndarray)
    assert found.x.dtype == object
    assert found.x.nbytes < 1000
    assert found.x[1] == "b"
    assert found.labels["t"].y[1] == "nö"


def test_a_table_may_miss_values_and_hold_categories() -> None:
    found = read({"x": [[1.5, None, "red"], [2, 3, "blue"]]})
    assert isinstance(found.x, np.ndarray)
    assert found.x.tolist() == [[1.5, None, "red"], [2, 3, "blue"]]


def test_masks_become_booleans_and_weights_floats() -> None:
    label = read({"x": [1, 2], "y": [0, 1], "mask": [1, False], "weight": [0, 1.5]}).labels["t"]
    assert isinstance(label.mask, np.ndarray)
    assert label.mask.tolist() == [True, False]
    assert label.mask.dtype == np.bool_
    assert isinstance(label.weight, np.ndarray)
    assert label.weight.dtype == np.float32


def test_null_stands_for_a_missing_label() -> None:
    assert read({"x": [1, 2], "y": ["a", None]}).labels["t"].y == ["a", None]


def test_escaped_pairs_are_text() -> None:
    assert decode(b'{"x": ["\\ud83d\\ude00"]}', "t", LIMITS).x[0] == "😀"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "bad_json"),
        ("\ufeff{}", "bad_json"),
        ('{"x": [1]} x', "bad_json"),
        ("null", "not_an_object"),
        ("{}", "missing_x"),
        ('{"x": [Infinity]}', "nonfinite_literal"),
        ('{"x": [1e39]}', "number_too_large"),
        ('{"x": [[1.5, 9223372036854775808]]}', "number_too_large"),
        ('{"x": [["a", 1' + "0" * 400 + "]]}", "number_too_large"),
        ('{"x": [1], "y": {"a": [1], "a": [1]}}', "duplicate_key"),
        ('{"x": ["\\uDC00"]}', "invalid_utf8"),
        ('{"x": {"a": [1]}}', "not_a_list"),
        ('{"x": [[1], 2]}', "ragged_rows"),
        ('{"x": [1, [2]]}', "ragged_rows"),
        ('{"x": [[], []]}', "empty"),
        ('{"x": [[[[[[[[[1]]]]]]]]]}', "wrong_rank"),
        ('{"x": [[["a"]]]}', "mixed_values"),
        ('{"x": [1], "y": [{}]}', "mixed_values"),
        ('{"x": [1], "y": [["a"]]}', "wrong_rank"),
        ('{"x": [1, 2], "y": ["a", true]}', "mixed_label_types"),
        ('{"x": [1], "y": [1], "mask": [2]}', "wrong_mask"),
        ('{"x": [1], "y": [1], "mask": ["1"]}', "wrong_mask"),
        ('{"x": [1], "y": [1], "mask": [null]}', "wrong_mask"),
        ('{"x": [1], "y": [1], "weight": [null]}', "bad_weight"),
        ('{"x": [1], "dtype": []}', "bad_dtype"),
        ('{"x": [1], "dtype": {"x": ["uint8"]}}', "bad_dtype"),
        ('{"x": [1], "dtype": {"y": "uint8"}}', "bad_dtype"),
        ('{"x": [256], "dtype": {"x": "uint8"}}', "number_too_large"),
        ('{"x": [-1], "dtype": {"x": "uint8"}}', "number_too_large"),
        ('{"x": [1.5], "dtype": {"x": "int64"}}', "wrong_dtype"),
        ('{"x": ["1"], "dtype": {"x": "float32"}}', "wrong_dtype"),
    ],
)
def test_wrong_texts_are_refused_by_their_reason(text: str, reason: str) -> None:
    assert refusal(text) == reason


def test_null_in_a_float_column_is_a_missing_number() -> None:
    found = read({"x": [[1, None]], "dtype": {"x": "float32"}})
    assert np.isnan(found.x[0][1])


def test_brackets_inside_strings_are_no_nesting() -> None:
    texts = ["[" * 50, '\\"[[[', '"' + "{" * 50, "\\" * 3]
    assert read({"x": texts}).x.tolist() == texts  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("depth", [15, 16, 17, 40])
def test_nesting_is_refused_beyond_the_limit_and_not_before(depth: int) -> None:
    text = '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "," + '"b":[' + "[]," * 40 + "[]]}"
    if depth <= LIMITS.max_depth:
        assert "a" in load_object(text.encode(), LIMITS)
    else:
        assert refusal(text) == "too_deep"


@pytest.mark.parametrize(
    "text",
    [
        b"[" * (1 << 20),
        b'{"x":' * 200_000,
        b'"' + b'\\"' * (1 << 19),
        b"[" * 20 + b'"' + b"\\" * (1 << 20),
        b'{"x":["' + b"a" * (1 << 20),
        b'{"x":[' + b"9" * (1 << 20),
        b'{"x":[' + b"[]," * 600_000 + b"[]]}",
    ],
    ids=["brackets", "objects", "escaped quotes", "backslashes", "open string", "digits", "lists"],
)
def test_hostile_texts_cost_neither_time_nor_memory(text: bytes) -> None:
    tracemalloc.start()
    start = time.monotonic()
    refusal(text)
    took, used = time.monotonic() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 2.0
    assert used < 8 * len(text) + (4 << 20)


def test_too_many_values_are_refused_before_they_are_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoding, "MAX_VALUES", 100)
    assert refusal('{"x": [' + "0," * 120 + "0]}") == "too_many_values"
    commas = json.dumps({"x": ["," * 120]})
    assert decode(commas.encode(), "t", LIMITS).x[0] == "," * 120


def test_too_many_bytes_are_refused_unread() -> None:
    assert refusal("[" * 100, Limits(max_event_bytes=99)) == "oversized"


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-100, 100)
    | st.text(alphabet='[]{}",\\a😀', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
)


@settings(max_examples=100, deadline=None, database=None)
@given(st.dictionaries(st.text(max_size=3), _values, max_size=4), st.integers(1, 8), st.booleans())
def test_depth_is_what_a_parser_would_reach(
    document: dict[str, object], limit: int, ascii_only: bool
) -> None:
    filler = {"filler": [[]] * 9}  # more brackets than the limit, so that they are looked at
    data = json.dumps({**document, **filler}, ensure_ascii=ascii_only).encode()
    too_deep = False
    try:
        load_object(data, Limits(max_depth=limit))
    except BadEvent as error:
        too_deep = error.reason == "too_deep"
    assert too_deep == (_depth({**document, **filler}) > limit)


def _depth(value: object) -> int:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)
