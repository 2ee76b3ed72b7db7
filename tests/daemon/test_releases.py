"""Published snapshots: what is there, which alias points where, and whether the files are what the manifest says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from daemon import releases
from daemon.errors import IntegrityError, Refused


def publish(models: Path, version: int, content: bytes = b"weights") -> Path:
    path = models / releases.directory_name(version)
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(content)
    said = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_text(
        json.dumps({"version": version, "files": {"model.safetensors": said}})
    )
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2, 10):
        publish(tmp_path, version)
    return tmp_path


def versions(models: Path) -> list[int]:
    return [release.version for release in releases.catalogue(models)]


def test_the_catalogue_is_newest_first_and_leaves_out_what_is_unfinished(models: Path) -> None:
    (models / "v000011.tmp").mkdir()
    (models / "notes").mkdir()
    (models / "v000012").write_text("a file")
    assert versions(models) == [10, 2, 1]
    assert releases.newest_version(models) == 10


def test_where_nothing_was_published_the_catalogue_is_empty(tmp_path: Path) -> None:
    assert releases.catalogue(tmp_path / "models") == []
    assert releases.newest_version(tmp_path / "models") == 0


def test_publishing_moves_latest_and_leaves_previous_behind(models: Path) -> None:
    releases.point_latest(models, "v000001")
    assert (releases.target(models, "latest"), releases.target(models, "previous")) == (
        "v000001",
        None,
    )
    releases.point_latest(models, "v000002")
    releases.point_latest(models, "v000002")  # a crash in between makes it happen twice
    assert (releases.target(models, "latest"), releases.target(models, "previous")) == (
        "v000002",
        "v000001",
    )


def test_an_alias_is_relative_so_that_the_directory_may_move(models: Path) -> None:
    releases.point(models, "champion", "v000002")
    assert not (models / "champion").readlink().is_absolute()
    assert (models / "champion" / "model.safetensors").read_bytes() == b"weights"
    assert not [one for one in models.iterdir() if one.name.startswith(".")]


def test_publishing_never_touches_the_champion(models: Path) -> None:
    releases.point(models, "champion", "v000001")
    releases.point_latest(models, "v000010")
    assert releases.target(models, "champion") == "v000001"


@pytest.mark.parametrize(("alias", "name"), [("newest", "v000001"), ("latest", "v000404")])
def test_an_alias_is_a_known_one_and_points_to_what_exists(
    models: Path, alias: str, name: str
) -> None:
    with pytest.raises(Refused):
        releases.point(models, alias, name)


@pytest.mark.parametrize(("name", "version"), [("latest", 10), ("2", 2), ("v000002", 2), ("v2", 2)])
def test_a_release_is_found_by_alias_number_and_directory(
    models: Path, name: str, version: int
) -> None:
    releases.point_latest(models, "v000010")
    assert releases.find(models, name).version == version


@pytest.mark.parametrize("name", ["previous", "7", "../x", "", "vv1"])
def test_what_is_not_there_is_refused_with_what_is(models: Path, name: str) -> None:
    with pytest.raises(Refused, match="v000010, v000002, v000001"):
        releases.find(models, name)


def test_retention_keeps_the_newest_and_what_an_alias_names(models: Path) -> None:
    releases.point(models, "champion", "v000001")
    assert releases.retain(models, 1) == [2]
    assert versions(models) == [10, 1]
    assert sorted(one.name for one in models.iterdir()) == ["champion", "v000001", "v000010"]


def test_files_that_are_what_the_manifest_says_have_no_problems(models: Path) -> None:
    assert releases.problems(models / "v000001") == []


def test_a_flipped_bit_a_torn_file_and_a_missing_one_are_found(models: Path) -> None:
    path = models / "v000001" / "model.safetensors"
    path.write_bytes(b"weightz")
    assert "sha256" in releases.problems(path.parent)[0]
    path.write_bytes(b"weigh")
    assert "5 bytes, the manifest says 7" in releases.problems(path.parent)[0]
    path.unlink()
    assert "No such file" in releases.problems(path.parent)[0]


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"files": []}'])
def test_a_manifest_that_is_none_is_a_problem(models: Path, text: str | None) -> None:
    path = models / "v000001" / "manifest.json"
    path.unlink() if text is None else path.write_text(text)
    assert len(releases.problems(path.parent)) == 1
    with pytest.raises(IntegrityError):
        releases.manifest(path.parent)


def test_a_manifest_without_hashes_verifies_nothing(models: Path) -> None:
    path = models / "v000001" / "manifest.json"
    path.write_text('{"files": {"model.safetensors": {}}}')
    assert releases.problems(path.parent) == [
        "model.safetensors: the manifest gives no size and sha256"
    ]


def test_a_directory_is_adopted_only_if_it_is_the_same_and_whole(models: Path) -> None:
    other = publish(models, 11, b"others!")
    assert releases.same_content(models / "v000001", models / "v000002")
    assert not releases.same_content(models / "v000001", other)
    (models / "v000002" / "model.safetensors").write_bytes(b"weightz")
    assert not releases.same_content(models / "v000001", models / "v000002")
    assert not releases.same_content(models / "v000001", models / "v000404")
