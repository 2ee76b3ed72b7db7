"""References: what was opened is what is checked, and nothing outside the root is ever opened."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from daemon.encodings.reference import decode
from daemon.errors import BadEvent
from daemon.types import Limits
from tests.support.malformed_references import ROWS, Case, kinds, npz, pointing, stored
from tests.support.raw import Fields


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    """A root with something worth stealing beside it."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.npz").write_bytes(npz(ROWS))
    return Limits(reference_root=str(root), max_reference_bytes=1 << 18)


def refusal(found: Fields, limits: Limits) -> str:
    """The reason for which a reference is refused."""
    with pytest.raises(BadEvent) as caught:
        decode(found[b"data"], "digits", limits)
    return caught.value.reason


@pytest.mark.parametrize("name", ["a.npz", "deep/er/a.npz", "ä b.npz", "a.safetensors"])
def test_rows_of_a_file_below_the_root_are_read(name: str, limits: Limits) -> None:
    content = npz(ROWS) if name.endswith("npz") else save(ROWS)
    found = decode(stored(limits, name, content)[b"data"], "digits", limits)
    np.testing.assert_array_equal(np.asarray(found.x), ROWS["x"])
    np.testing.assert_array_equal(np.asarray(found.labels["digits"].y), ROWS["y"])


@pytest.mark.parametrize("start", ["file://", "file://localhost", "FILE://"])
def test_a_file_uri_below_the_root_is_read(start: str, limits: Limits) -> None:
    uri = f"{start}{limits.reference_root}/a%20b.npz"
    found = decode(stored(limits, "a b.npz", npz(ROWS), uri)[b"data"], "digits", limits)
    assert len(found.x) == 2


def test_references_are_off_without_a_root(limits: Limits) -> None:
    assert refusal(stored(limits, "a.npz", npz(ROWS)), Limits()) == "references_off"


@pytest.mark.parametrize("case", kinds(), ids=lambda case: case[0])
def test_a_malformed_reference_is_refused_by_its_reason(case: Case, limits: Limits) -> None:
    _, make, reason = case
    assert refusal(make(limits), limits) == reason


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "bad_reference"),
        (".", "outside_root"),
        ("/", "outside_root"),
        ("//root/a.npz", "outside_root"),
        ("a/../../secret.npz", "outside_root"),
        ("file://other-host/a.npz", "bad_reference"),
        ("file:///%ff.npz", "bad_reference"),
        ("file:///a.npz?x=1", "bad_reference"),
        ("file://[/a.npz", "bad_reference"),
        ("a" * 300 + ".npz", "reference_unreadable"),
        ("a" * 2000 + ".npz", "bad_reference"),
        ("a", "unknown_format"),
    ],
)
def test_uris_that_lead_elsewhere_are_refused(uri: str, reason: str, limits: Limits) -> None:
    assert refusal(pointing(uri), limits) == reason


def test_a_root_reached_by_a_symlink_is_the_operators_choice(
    tmp_path: Path, limits: Limits
) -> None:
    link = tmp_path / "link"
    link.symlink_to(str(limits.reference_root))
    found = stored(limits, "a.npz", npz(ROWS))
    assert len(decode(found[b"data"], "digits", Limits(reference_root=str(link))).x) == 2


def test_a_folder_is_not_a_file(limits: Limits) -> None:
    (Path(str(limits.reference_root)) / "folder.npz").mkdir()
    assert refusal(pointing("folder.npz"), limits) == "not_a_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_without_permission_is_unreadable(limits: Limits) -> None:
    found = stored(limits, "closed.npz", npz(ROWS))
    (Path(str(limits.reference_root)) / "closed.npz").chmod(0)
    assert refusal(found, limits) == "reference_unreadable"


def test_no_descriptor_stays_open(limits: Limits) -> None:
    found = stored(limits, "deep/a.npz", npz(ROWS))
    bad = [make(limits) for _, make, _ in kinds()]
    before = _num_descriptors()
    for _ in range(3):
        decode(found[b"data"], "digits", limits)
        for one in bad:
            refusal(one, limits)
    assert _num_descriptors() == before


def _num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_rows_for_several_tasks_may_lie_in_a_file(limits: Limits) -> None:
    content = save({"x": ROWS["x"], "y.a": ROWS["y"], "y.b": ROWS["y"]})
    found = decode(stored(limits, "a.safetensors", content)[b"data"], None, limits)
    assert list(found.labels) == ["a", "b"]


def test_the_hash_is_of_the_whole_file(limits: Limits) -> None:
    content = npz(ROWS)
    (Path(str(limits.reference_root)) / "a.npz").write_bytes(content + b"x")
    assert refusal(pointing("a.npz", sha256(content).hexdigest()), limits) == "wrong_sha256"
