"""A catalogue of malformed events: what a broken or hostile producer may send, and what becomes of it.

Send `setup()`, then `good(0)`, then for each kind its fields and another `good(n)`. `level` says who finds it:
"parse" without knowledge of tasks, "engine" when the rows meet their task, "log" by the event's key.
The reason of a kind found to be a repetition is "duplicate": it is counted and is no dead letter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import save

from daemon.types import Limits
from tests.support import malformed_references as references
from tests.support.raw import (
    Fields,
    fields,
    headed,
    json_event,
    replaced,
    spec,
    task_event,
    tensor_bytes,
    tensor_event,
)

MAX_CLASSES = 3
X = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)  # two rows of the task "digits"
Y = np.array([0, 1])
VECTORS = np.ones((2, 4), np.float32)  # two rows of "vectors"
TABLE = np.ones((2, 3), np.float32)  # two rows of "price"


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be malformed."""

    name: str
    make: Callable[[Limits], Fields]
    reason: str
    level: str = "parse"


def setup() -> list[Fields]:
    """The tasks that the catalogue speaks of, and rows that fix their shapes."""
    image = {"modality": "image", "input_shape": [4, 4], "max_classes": MAX_CLASSES, "holdout": 0.0}
    vectors = {"modality": "embedding", "input_shape": [4], "holdout": 0.0}
    price = {"modality": "table", "kind": "regression", "input_shape": [3], "holdout": 0.0}
    return [
        task_event("add", "digits", image, id="add-1"),
        task_event("add", "vectors", vectors, id="add-2"),
        task_event("add", "price", price, id="add-3"),
        task_event("add", "intents", {"modality": "text", "holdout": 0.0}, id="add-4"),
        tensor_event("vectors", {"x": VECTORS, "y": Y}, id="fix-2"),
        tensor_event("price", {"x": TABLE, "y": np.ones((2, 1), np.float32)}, id="fix-3"),
        json_event("intents", {"x": ["on", "off"], "y": ["light_on", "light_off"]}, id="fix-4"),
    ]


def good(number: int) -> Fields:
    """A well-formed event of two rows; every number is another event."""
    rng = np.random.default_rng(number)
    x = rng.integers(0, 256, (2, 4, 4), dtype=np.uint8)
    return tensor_event("digits", {"x": x, "y": Y}, id=f"good-{number}", mtlrows="2")


def catalogue() -> list[Kind]:
    """Every kind; each event has an id of its own, the kind's name, unless its id is what is wrong."""
    kinds = [*_envelopes(), *_safetensors(), *_json(), *_columns(), *_tasks(), *_rows()]
    kinds += [Kind(name, make, reason) for name, make, reason in references.kinds()]
    named = [Kind(kind.name, _with_id(kind), kind.reason, kind.level) for kind in kinds]
    return [*named, *_identities()]


def _with_id(kind: Kind) -> Callable[[Limits], Fields]:
    def make(limits: Limits) -> Fields:
        found = kind.make(limits)
        return {**found, b"id": kind.name.encode()} if found.get(b"id") == b"1" else found

    return make


def _plain(**attributes: str | bytes | None) -> Callable[[Limits], Fields]:
    """A good event with some attributes replaced, or left out where None."""
    return lambda _: replaced(tensor_event("digits", {"x": X, "y": Y}), attributes)


def _envelopes() -> list[Kind]:
    many = {f"extension{number}": "1" for number in range(80)}
    return [
        Kind("missing id", _plain(id=None), "missing_field"),
        Kind("empty id", _plain(id=""), "bad_field_length"),
        Kind("id of 300 bytes", _plain(id="i" * 300), "bad_field_length"),
        Kind("id with a line break", _plain(id="a\nb"), "control_characters"),
        Kind("missing source", _plain(source=None), "missing_field"),
        Kind("missing type", _plain(type=None), "missing_field"),
        Kind("no specversion", _plain(specversion=None), "missing_field"),
        Kind("future specversion", _plain(specversion="2.0"), "unsupported_specversion"),
        Kind("future data version", _plain(type="mtl.data.v2"), "unknown_type"),
        Kind("subject that is not UTF-8", _plain(subject=b"\xff\xfe"), "invalid_utf8"),
        Kind("subject with a slash", _plain(subject="../digits"), "bad_task_name"),
        Kind("time that is no time", _plain(time="yesterday"), "bad_time"),
        Kind(
            "content type pickle",
            _plain(datacontenttype="application/x-pickle"),
            "unknown_content_type",
        ),
        Kind(
            "content type of the other encoding",
            _plain(datacontenttype="application/json"),
            "bad_json",
        ),
        Kind("fourth hop", _plain(mtlhop="4"), "too_many_hops"),
        Kind("row count that is no number", _plain(mtlrows="many"), "bad_mtlrows"),
        Kind("row count that is wrong", _plain(mtlrows="7"), "rows_mismatch"),
        Kind("too many attributes", _plain(**many), "too_many_fields"),
        Kind(
            "too many bytes",
            lambda lim: tensor_bytes("digits", bytes(lim.max_event_bytes)),
            "oversized",
        ),
        Kind("no data", _plain(data=None), "missing_data"),
        Kind("no subject for one task's labels", _plain(subject=None), "missing_subject"),
        Kind(
            "control from a stranger",
            lambda _: fields("mtl.control.v1", None, b'{"kind":"flush"}'),
            "foreign_control",
        ),
    ]


def _safetensors() -> list[Kind]:
    good_bytes = save({"x": X, "y": Y})
    x, y = spec("U8", [2, 4, 4], 0, 32), spec("U8", [2], 32, 34)
    body = bytes(34)
    twice = b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    cases: list[tuple[str, bytes, str]] = [
        ("tensors cut short", good_bytes[:-5], "truncated"),
        ("tensors of three bytes", b"abc", "truncated"),
        ("header longer than the data", (5000).to_bytes(8, "little") + b"{}", "truncated"),
        ("header of exabytes", b"\xff" * 8 + b"{}", "header_too_large"),
        ("header that is not JSON", headed(b"{x}"), "bad_header"),
        ("header that is a list", headed([]), "bad_header"),
        ("header nested deep", headed(b"[" * 20_000), "too_many_columns"),
        ("header with one name twice", headed(twice, b"a"), "duplicate_key"),
        (
            "tensors that overlap",
            headed({"x": x, "y": spec("U8", [2], 30, 32)}, bytes(32)),
            "bad_offsets",
        ),
        (
            "a gap between tensors",
            headed({"x": x, "y": spec("U8", [2], 34, 36)}, bytes(36)),
            "bad_offsets",
        ),
        ("bytes after the tensors", headed({"x": x, "y": y}, bytes(99)), "bad_offsets"),
        (
            "offsets beyond the data",
            headed({"x": x, "y": spec("U8", [2], 99, 101)}, body),
            "truncated",
        ),
        ("negative offsets", headed({"x": x, "y": spec("U8", [2], -2, 0)}, body), "bad_header"),
        (
            "offsets that do not fit the shape",
            headed({"x": x, "y": spec("U8", [3], 32, 34)}, body),
            "bad_offsets",
        ),
        (
            "shape of 2^120 rows",
            headed({"x": spec("U8", [2**60, 2**60], 0, 34)}, body),
            "bad_offsets",
        ),
        ("unknown dtype", headed({"x": x, "y": spec("C64", [2], 32, 34)}, body), "unknown_dtype"),
        (
            "BOOL bytes beyond 1",
            headed({"x": x, "mask": spec("BOOL", [2], 32, 34)}, bytes(32) + b"\7\7"),
            "bad_bool",
        ),
        ("pickle as data", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}.", "header_too_large"),
    ]
    return [Kind(name, _bytes_of(data), reason) for name, data, reason in cases]


def _bytes_of(data: bytes) -> Callable[[Limits], Fields]:
    return lambda _: tensor_bytes("digits", data)


def _json() -> list[Kind]:
    cases: list[tuple[str, str | bytes, str]] = [
        ("JSON cut short", '{"x": [1, 2', "bad_json"),
        ("JSON that is a list", "[1, 2]", "not_an_object"),
        ("JSON that is not UTF-8", b'{"x": ["\xff"]}', "invalid_utf8"),
        ("JSON with half a character", '{"x": ["\\ud800"]}', "invalid_utf8"),
        ("JSON with NaN", '{"x": [[NaN, 1]], "y": [0]}', "nonfinite_literal"),
        ("JSON with -Infinity", '{"x": [[-Infinity, 1]], "y": [0]}', "nonfinite_literal"),
        ("JSON with 1e999", '{"x": [[1e999, 1]], "y": [0]}', "number_too_large"),
        (
            "JSON with an integer of 100 digits",
            f'{{"x": [[{"9" * 100}]], "y": [0]}}',
            "number_too_large",
        ),
        (
            "JSON with an integer of 9,000 digits",
            f'{{"x": [[{"9" * 9000}]], "y": [0]}}',
            "number_too_large",
        ),
        ("JSON with one key twice", '{"x": [[1]], "x": [[2]]}', "duplicate_key"),
        ("JSON with an unknown key", '{"x": [[1]], "labels": [2]}', "unknown_column"),
        ("JSON nested 100,000 deep", "[" * 100_000, "too_deep"),
        ("JSON of ragged rows", '{"x": [[1, 2], [3]], "y": [0, 1]}', "ragged_rows"),
        ("JSON with an object as a row", '{"x": [{"a": 1}], "y": [0]}', "mixed_values"),
        (
            "JSON with strings beside int labels",
            '{"x": [[1], [2]], "y": [0, "a"]}',
            "mixed_label_types",
        ),
        (
            "JSON with a label of 300 bytes",
            f'{{"x": [[1]], "y": ["{"a" * 300}"]}}',
            "label_too_long",
        ),
        ("JSON where x is a number", '{"x": 1}', "not_a_list"),
        (
            "JSON with an unknown dtype",
            '{"x": [[1]], "y": [0], "dtype": {"x": "object"}}',
            "bad_dtype",
        ),
        ("JSON without rows", '{"x": [], "y": []}', "empty"),
    ]
    kinds = [Kind(name, _json_of(text), reason) for name, text, reason in cases]
    return [*kinds, Kind("JSON bomb of empty lists", _list_bomb, "too_many_values")]


def _json_of(text: str | bytes) -> Callable[[Limits], Fields]:
    return lambda _: json_event("digits", text)


def _list_bomb(limits: Limits) -> Fields:
    return json_event("digits", b'{"x":[' + b"[]," * (9 * limits.max_rows) + b"[]]}")


def _columns() -> list[Kind]:
    cases: list[tuple[str, str | None, dict[str, np.ndarray], str]] = [
        ("no inputs", "digits", {"y": Y}, "missing_x"),
        ("unknown tensor", "digits", {"x": X, "z": Y}, "unknown_column"),
        ("tensor of another task", "digits", {"x": X, "y.price": Y}, "ambiguous_task"),
        ("label tensor of an impossible task", None, {"x": X, "y.a/b": Y}, "bad_task_name"),
        ("mask without labels", "digits", {"x": X, "mask": Y}, "labels_missing"),
        ("fewer labels than rows", "digits", {"x": X, "y": Y[:1]}, "length_mismatch"),
        ("no rows", "digits", {"x": X[:0], "y": Y[:0]}, "empty"),
        ("x without rows axis", "digits", {"x": np.array(1.0)}, "wrong_rank"),
        ("unlabelled rows of no task", None, {"x": X}, "missing_subject"),
    ]
    kinds = [
        Kind(name, _tensors_of(subject, columns), reason)
        for name, subject, columns, reason in cases
    ]
    return [*kinds, Kind("too many rows", _many_rows, "too_many_rows")]


def _tensors_of(subject: str | None, columns: dict[str, np.ndarray]) -> Callable[[Limits], Fields]:
    return lambda _: tensor_event(subject, columns)


def _many_rows(limits: Limits) -> Fields:
    return tensor_event("vectors", {"x": np.zeros((limits.max_rows + 1, 1), np.uint8)})


def _tasks() -> list[Kind]:
    def told(
        name: str,
        verb: str,
        subject: str | None,
        document: object,
        reason: str,
        level: str = "parse",
    ) -> Kind:
        return Kind(name, lambda _: task_event(verb, subject, document), reason, level)

    imported = {"modality": "image", "encoder": "os:system"}
    return [
        told("task without a name", "add", None, {"modality": "image"}, "missing_subject"),
        told("task under two names", "add", "a", {"name": "b"}, "name_mismatch"),
        told("task that is a list", "add", "a", [1], "not_an_object"),
        told("task with classes that are a number", "add", "a", {"classes": 5}, "bad_task"),
        told("task that imports code", "add", "a", imported, "bad_task"),
        told(
            "task with an unknown setting",
            "add",
            "a",
            {"learning_rate": 1},
            "refused_by_engine",
            "engine",
        ),
        told(
            "task that exists otherwise",
            "add",
            "digits",
            {"modality": "text"},
            "task_exists",
            "engine",
        ),
        told("switch to nothing", "switch", None, {}, "missing_subject"),
        told("switch to an unknown task", "switch", "nobody", {}, "unknown_task", "engine"),
        told("switch with a phase that is a list", "switch", "digits", {"phase": [1]}, "bad_phase"),
        told("switch with an unknown key", "switch", "digits", {"task": "price"}, "unknown_key"),
        told("update of nothing", "update", "digits", {}, "bad_update"),
        told("update with a string", "update", "digits", {"share": "2"}, "bad_update"),
        told(
            "update beyond the range",
            "update",
            "digits",
            {"share": 1e9},
            "refused_by_engine",
            "engine",
        ),
        told("retirement of an unknown task", "retire", "nobody", {}, "unknown_task", "engine"),
    ]


def _rows() -> list[Kind]:
    nan, infinite = VECTORS.copy(), VECTORS.copy()
    nan[1, 2], infinite[1, 2] = np.nan, np.inf
    labels = np.arange(MAX_CLASSES + 2, dtype=np.int64)
    cases: list[tuple[str, str, dict[str, np.ndarray], str]] = [
        ("rows of an unknown task", "nobody", {"x": X, "y": Y}, "unknown_task"),
        ("inputs of another dtype", "digits", {"x": X.astype(np.float32), "y": Y}, "wrong_dtype"),
        ("inputs of another rank", "digits", {"x": X.reshape(2, 16), "y": Y}, "wrong_rank"),
        ("inputs of another shape", "digits", {"x": X[:, :3], "y": Y}, "wrong_shape"),
        ("numbers for a text task", "intents", {"x": VECTORS, "y": Y}, "wrong_rank"),
        ("an input that is NaN", "vectors", {"x": nan, "y": Y}, "nan_input"),
        ("an input that is infinite", "vectors", {"x": infinite, "y": Y}, "infinite_input"),
        ("a label below zero", "digits", {"x": X, "y": np.array([0, -1])}, "negative_label"),
        ("a label of 2^31", "digits", {"x": X, "y": np.array([0, 2**31])}, "label_out_of_range"),
        ("labels with a fraction", "digits", {"x": X, "y": np.array([0.5, 1.5])}, "wrong_dtype"),
        (
            "a regression label that is NaN",
            "price",
            {"x": TABLE, "y": np.full((2, 1), np.nan)},
            "nan_label",
        ),
        ("too many regression columns", "price", {"x": TABLE, "y": np.ones((2, 5))}, "wrong_shape"),
        (
            "too many classes",
            "digits",
            {"x": np.zeros((len(labels), 4, 4), np.uint8), "y": labels},
            "too_many_classes",
        ),
        ("a mask of sevens", "digits", {"x": X, "y": Y, "mask": np.array([7, 7])}, "wrong_mask"),
        (
            "a weight below zero",
            "digits",
            {"x": X, "y": Y, "weight": np.array([1.0, -1.0], np.float32)},
            "bad_weight",
        ),
    ]
    kinds = [
        Kind(name, _tensors_of(task, columns), reason, "engine")
        for name, task, columns, reason in cases
    ]
    words = {"x": [[1, 2, 3]], "y": ["cheap"]}
    return [
        *kinds,
        Kind(
            "class labels for a regression",
            lambda _: json_event("price", words),
            "label_for_regression",
            "engine",
        ),
        Kind("strings for an int task", _string_labels, "mixed_label_types", "engine"),
    ]


def _string_labels(_: Limits) -> Fields:
    return json_event("digits", {"x": X.tolist(), "y": ["a", "b"]})


def _identities() -> list[Kind]:
    def reused(_: Limits) -> Fields:
        return {**good(0), b"data": good(1)[b"data"]}

    return [
        Kind("the same event again", lambda _: good(0), "duplicate", "log"),
        Kind("an id used for another payload", reused, "id_reused", "log"),
    ]
