"""What a row is known by: copies have one hash, whatever they are called or came as, and whoever lacks the salt learns nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mtl_engine import contents
from mtl_engine.contents import Contents, form, fraction
from mtl_engine.types import Rows, TaskSpec
from tests.support.splits import SALT, distinct, numbers, prepared, registry

if TYPE_CHECKING:
    from mtl_engine.registry import Registry


def hashes(of: Registry, task: str, x: Any, salt: str = SALT) -> np.ndarray:
    """The hashes of rows as they are kept for a task."""
    rows = prepared(of, task, x)
    return Contents(salt).of_rows(rows, of.tables[rows.table])


def raw(x: np.ndarray, length: np.ndarray | None = None) -> np.ndarray:
    """The hashes of rows that are kept as they are."""
    of = registry(numbers())
    prepared(of, "a", np.zeros((1, 4), np.float32))
    (table,) = of.tables.values()
    return Contents(SALT).of_rows(Rows("", x, length), table)


def test_copies_have_one_hash_and_other_rows_another() -> None:
    x = distinct(500)
    found = raw(np.concatenate([x, x[::-1]]))
    assert np.array_equal(found[:500], found[500:][::-1])
    assert len(set(found.tolist())) == 500


def test_a_row_s_hash_does_not_depend_on_the_rows_around_it() -> None:
    x = distinct(9)
    assert np.array_equal(np.concatenate([raw(x[k : k + 1]) for k in range(9)]), raw(x))


def test_large_events_are_looked_at_piece_by_piece_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, length = np.arange(700, dtype=np.uint8).reshape(70, 10), np.arange(70, dtype=np.int32)
    whole, with_length = raw(x), raw(x, length)
    for size in (1, 10, 33, 699):
        monkeypatch.setattr(contents, "_CHUNK_BYTES", size)
        assert np.array_equal(raw(x), whole)
        assert np.array_equal(raw(x, length), with_length)


@pytest.mark.parametrize("place", [0, 1, 17, 48])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_rows_that_differ_in_one_value_are_told_apart(dtype: type, place: int) -> None:
    x = np.arange(49 * 2).reshape(2, 49).astype(dtype)
    x[1] = x[0]
    assert len(set(raw(x).tolist())) == 1
    x[1, place] += 1
    assert len(set(raw(x).tolist())) == 2


def test_values_that_change_places_make_another_row() -> None:
    assert len(set(raw(np.array([[1, 2, 3], [3, 2, 1], [2, 1, 3]], np.float32)).tolist())) == 3


def test_minus_zero_is_zero_and_every_nan_the_same() -> None:
    payloads = np.array([0x7FC00000, 0x7FC00001, 0xFFC12345], np.uint32).view(np.float32)
    x = np.zeros((5, 4), np.float32)
    x[1] = -0.0
    x[2:, 1] = payloads
    found = raw(x)
    assert found[0] == found[1] != found[2]
    assert len(set(found[2:].tolist())) == 1
    assert np.signbit(x[1]).all(), "the row itself is left as it is"


def test_rows_are_known_as_they_are_kept_and_not_as_they_came() -> None:
    of = registry(numbers(input_shape=(4,)), TaskSpec("image", input_shape=(2, 2)))
    x = (distinct(6) * 8).round() / 8
    kept = hashes(of, "a", x)
    for form_ in (x.tolist(), x.astype(np.float64), x.astype(np.float16), np.asfortranarray(x)):
        assert np.array_equal(hashes(of, "a", form_), kept)
    pixels = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    assert np.array_equal(hashes(of, "image", pixels), hashes(of, "image", pixels.tolist()))


def test_missing_and_categorical_columns_of_a_table_are_known_as_what_they_are_kept_as() -> None:
    spec = TaskSpec("t", modality="table", encoder={"name": "table", "categorical": [0]})
    found = hashes(registry(spec), "t", [["3", 1.0, None], [3, 1, float("nan")], [3.0, 1.0, 0.0]])
    assert found[0] == found[1] != found[2]


def test_a_text_is_its_bytes_however_many_a_task_keeps() -> None:
    of = registry(*(TaskSpec(f"t{size}", modality="text", max_bytes=size) for size in (7, 16, 512)))
    texts = ["rain", "", "rain ", "sun", "Ünd"]
    found = hashes(of, "t7", texts)
    assert len(set(found.tolist())) == len(texts)
    assert np.array_equal(hashes(of, "t16", texts), found)
    assert np.array_equal(hashes(of, "t512", texts), found)
    assert hashes(of, "t512", ["rain and sun"]) != hashes(of, "t7", ["rain and sun"])  # cut


def test_texts_that_differ_in_their_length_alone_are_told_apart() -> None:
    x = np.zeros((2, 8), np.uint8)
    assert len(set(raw(x, np.array([2, 3], np.int32)).tolist())) == 2


def test_a_row_is_known_by_its_form_too_but_not_by_who_reads_it() -> None:
    of = registry(
        TaskSpec("a", modality="embedding"),
        TaskSpec("b", modality="embedding"),
        TaskSpec("table", modality="table"),
        TaskSpec("half", modality="embedding"),
        TaskSpec("dim", scale=0.5),
        TaskSpec("bright", scale=1.0),
    )
    x = np.eye(4, dtype=np.float32)
    found = hashes(of, "a", x)
    assert np.array_equal(hashes(of, "b", x), found)
    assert not (hashes(of, "table", x) == found).any()
    assert not (hashes(of, "half", x.astype(np.float16)) == found).any()
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(hashes(of, "dim", pixels), hashes(of, "bright", pixels))
    assert len({form(table) for table in of.tables.values()}) == len(of.tables) - 1


def test_another_salt_has_nothing_to_do_with_it() -> None:
    of, x = registry(numbers()), distinct(4000)
    one, other = (fraction(hashes(of, "a", x, salt)) for salt in ("x", "y"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / 4000**0.5
    both = ((one < 0.05) & (other < 0.05)).sum()
    assert both <= 25, "10 of 4,000 are expected by chance"


def test_numbers_are_uniform_even_where_rows_are_nearly_alike() -> None:
    """Rows of one small counter: 4 standard deviations in each of 20 bins."""
    x = np.zeros((20_000, 4), np.float32)
    x[:, 0] = np.arange(20_000)
    u = fraction(raw(x))
    assert 0 <= u.min() < u.max() < 1
    counts = np.bincount((u * 20).astype(int), minlength=20)
    assert (abs(counts - 1000) < 4 * (20_000 * 0.05 * 0.95) ** 0.5).all()


def test_the_bit_of_the_kind_is_a_fair_coin_among_what_is_held_out() -> None:
    found = raw(distinct(20_000))
    u, bit = fraction(found), found & 1
    for part in (0.05, 0.5):
        n = int((u < part).sum())
        assert abs(int(bit[u < part].sum()) - n / 2) < 2 * n**0.5
    assert abs(np.corrcoef(u, bit)[0, 1]) < 4 / 20_000**0.5


def test_copies_of_one_content_are_drawn_by_their_place() -> None:
    of, row_N = Contents(SALT), np.arange(3000)
    one = of.of_copies("5-0", row_N)
    assert np.array_equal(of.of_copies("5-0", np.array([7, 2999])), one[[7, 2999]])
    assert not (of.of_copies("5-1", row_N) == one).any()
    assert not (Contents("other").of_copies("5-0", row_N) == one).any()
    assert abs(float(fraction(one).mean()) - 0.5) < 4 / (12 * 3000) ** 0.5


def test_hashes_are_the_same_on_every_machine() -> None:
    """They are in checkpoints: a change of them would make train rows of hold-outs."""
    assert raw(np.array([[0.0, 1.0, 2.0, 3.0]], np.float32)).tolist() == [GOLDEN]


GOLDEN = 3878008423071384168
