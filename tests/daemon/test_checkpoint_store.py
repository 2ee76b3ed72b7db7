"""Checkpoints on disk: what counts, what is set aside, and how the nearest good ancestor is found."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from daemon.checkpoint_store import (
    LINEAGE,
    MANIFEST,
    SCHEMA,
    STATE_JSON,
    STATE_TENSORS,
    Store,
    opened,
    sealed,
    verify,
    write_bytes,
)
from daemon.errors import IntegrityError
from tests.support.core import flip_bit, line_of_cuts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk is slow and not what is tested


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three cuts, 1 <- 2 <- 3, the third current."""
    return line_of_cuts(tmp_path / "checkpoints", 3)


def _good(store: Store) -> int:
    found = store.newest_good()
    assert found is not None
    assert found.meta == {"number": found.seq}
    assert int(found.tensors["x"][0]) == found.seq
    return found.seq


def test_the_current_cut_is_found_whole(store: Store) -> None:
    found = store.newest_good()
    assert found is not None
    assert (found.seq, found.header["parent"], found.set_aside) == (3, 2, [])
    assert found.segments["ring/0"]["keys"].tolist() == [7, 7, 7]
    assert "files" not in found.header


def test_where_nothing_was_ever_current_there_is_nothing(tmp_path: Path) -> None:
    assert Store(tmp_path).newest_good() is None
    assert Store(tmp_path).lineage() == []


@pytest.mark.parametrize("name", [MANIFEST, STATE_JSON, STATE_TENSORS, "ring+0.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "torn", "empty", "longer"])
def test_a_damaged_file_makes_the_parent_the_newest_good(
    store: Store, name: str, damage: str
) -> None:
    path = store.path(3) / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"torn": content[:-1], "empty": b"", "longer": content + b"x"}[damage])
    assert _good(store) == 2
    assert (store.root / "000003.bad").is_dir()
    assert store.lineage() == [2, 1]


@pytest.mark.parametrize("name", [MANIFEST, STATE_JSON, STATE_TENSORS])
def test_any_flipped_bit_is_noticed(store: Store, name: str) -> None:
    path = store.path(3) / name
    content = path.read_bytes()
    for place in range(0, len(content) * 8, 37):
        flip_bit(path, place)
        with pytest.raises((IntegrityError, ValueError, KeyError, TypeError)):
            store.load(3)
        path.write_bytes(content)
    assert _good(store) == 3


def test_a_cut_of_a_newer_schema_is_set_aside_and_kept(store: Store) -> None:
    manifest = opened((store.path(3) / MANIFEST).read_bytes())
    (store.path(3) / MANIFEST).write_bytes(sealed({**manifest, "schema": SCHEMA + 1}))
    found = store.newest_good()
    assert found is not None
    assert found.seq == 2
    assert found.set_aside == [
        f"3: schema {SCHEMA + 1} is newer than {SCHEMA}, which this version reads"
    ]
    assert (store.root / "000003.bad" / STATE_TENSORS).exists()


def test_fall_back_follows_the_parents_and_never_the_numbers(store: Store) -> None:
    store.make_current([3, 1])  # 2 is of an abandoned line
    (store.path(3) / STATE_TENSORS).unlink()
    assert _good(store) == 1


def test_a_current_cut_that_is_gone_is_told(store: Store) -> None:
    shutil.rmtree(store.path(3))
    found = store.newest_good()
    assert found is not None
    assert (found.seq, found.set_aside) == (2, ["3: it is missing"])


def test_when_no_cut_is_good_nothing_starts_afresh(store: Store) -> None:
    for seq in (1, 2, 3):
        (store.path(seq) / STATE_JSON).unlink()
    for _ in range(2):  # and trying again changes nothing
        with pytest.raises(IntegrityError, match=r"no checkpoint below .* is usable .*backup"):
            store.newest_good()
    assert len(list(store.root.glob("*.bad"))) == 3


def test_only_the_newest_cuts_that_were_set_aside_stay(tmp_path: Path) -> None:
    store = line_of_cuts(tmp_path, 5)
    for seq in (5, 4, 3):
        (store.path(seq) / STATE_JSON).unlink()
    assert _good(store) == 2
    assert sorted(path.name for path in store.root.glob("*.bad")) == ["000004.bad", "000005.bad"]
    assert _good(store) == 2
    assert store.highest() == 5, "a number would be used twice"


def test_orphans_go_and_what_counts_or_was_set_aside_stays(store: Store) -> None:
    shutil.copytree(store.path(3), store.path(4))
    shutil.copytree(store.path(3), store.temporary(5))
    shutil.copytree(store.path(3), store.root / "000006.bad")
    (store.root / "CURRENT.tmp").write_text("{")
    store.drop_orphans()
    left = sorted(path.name for path in store.root.iterdir())
    assert left == ["000001", "000002", "000003", "000006.bad", "CURRENT"]


@pytest.mark.parametrize("name", ["000007", "000007.tmp", "000007.bad", "1234567", "1234567.bad"])
def test_the_highest_number_counts_whatever_became_of_its_cut(store: Store, name: str) -> None:
    (store.root / name).mkdir()
    assert store.highest() == int(name.partition(".")[0])


def test_current_names_a_bounded_number_of_ancestors(store: Store) -> None:
    store.make_current(list(range(500, 0, -1)))
    assert store.lineage() == list(range(500, 500 - LINEAGE, -1))
    assert json.loads((store.root / "CURRENT").read_text())["seq"] == 500


# -- a lost CURRENT ----------------------------------------------------------------------------------------


def test_a_missing_current_is_made_again_from_the_newest_cut_and_its_parents(store: Store) -> None:
    (store.root / "CURRENT").unlink()
    (told,) = store.mend_current()
    assert told == "CURRENT is missing: made again from 3 and its parents"
    assert store.lineage() == [3, 2, 1]


def test_a_damaged_current_is_made_again_whichever_bit_is_wrong(store: Store) -> None:
    path = store.root / "CURRENT"
    content = path.read_bytes()
    for place in range(0, len(content) * 8, 11):
        path.write_bytes(content)
        flip_bit(path, place)
        (told,) = store.mend_current()
        assert told.startswith("CURRENT is damaged")
        assert store.lineage() == [3, 2, 1]


def test_a_good_current_is_left_alone(store: Store) -> None:
    store.make_current([2, 1])
    assert store.mend_current() == []
    assert store.lineage() == [2, 1]


def test_a_first_cut_that_never_counted_is_no_lost_current(tmp_path: Path) -> None:
    store = line_of_cuts(tmp_path, 1)
    (store.root / "CURRENT").unlink()
    assert store.mend_current() == []
    assert store.lineage() == []


def test_a_lost_current_and_an_unreadable_newest_cut_are_for_a_person_to_decide(
    store: Store,
) -> None:
    (store.root / "CURRENT").unlink()
    (store.path(3) / MANIFEST).write_bytes(b"{")
    with pytest.raises(IntegrityError, match=r"CURRENT is lost .*000003.* backup"):
        store.mend_current()
    assert all(store.path(seq).exists() for seq in (1, 2, 3))


def test_a_lost_current_goes_back_as_far_as_manifests_can_be_read(store: Store) -> None:
    (store.root / "CURRENT").unlink()
    (store.path(2) / MANIFEST).unlink()
    store.mend_current()
    assert store.lineage() == [3, 2]


# -- files -------------------------------------------------------------------------------------------------


def test_what_is_sealed_opens_to_the_same(tmp_path: Path) -> None:
    body = {"schema": SCHEMA, "b": 1.1, "a": [None, "ü", {"c": True}]}
    write_bytes(tmp_path / "file", sealed(body))
    assert opened((tmp_path / "file").read_bytes()) == body


def test_headers_are_given_of_the_cuts_that_have_a_good_one(store: Store) -> None:
    flip_bit(store.path(2) / MANIFEST, 900)
    headers = store.headers([3, 2, 1])
    assert sorted(headers) == [1, 3]
    assert headers[3]["step"] == 30


def test_only_the_files_named_are_hashed_and_all_are_measured(store: Store) -> None:
    manifest = store.manifest(3)
    flip_bit(store.path(3) / STATE_TENSORS, 800)
    verify(store.path(3), manifest, {STATE_JSON})
    with pytest.raises(IntegrityError, match=r"state.safetensors has sha256 \w{12}, the manifest"):
        verify(store.path(3), manifest, {STATE_TENSORS})
    (store.path(3) / STATE_JSON).write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"state\.json has 0 bytes"):
        verify(store.path(3), manifest, set())


def test_tensors_come_back_with_the_type_and_shape_they_had(store: Store) -> None:
    found = store.load(2)
    assert found.tensors["x"].dtype == np.float32
    assert found.tensors["none"].shape == (0, 4)
