"""Published snapshots: what is there, which alias points where, and whether the files are what the manifest says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from daemon import releases
from daemon.decisions import DECISIONS
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


def champions(models: Path) -> tuple[str | None, str | None]:
    return releases.target(models, "champion"), releases.target(models, "previous")


def test_a_promotion_leaves_the_champion_before_it_as_previous(models: Path) -> None:
    assert releases.promote(models, "v000001") is None
    assert champions(models) == ("v000001", None)
    assert releases.promote(models, "v000002") == "v000001"
    releases.promote(models, "v000002")  # a crash in between makes it happen twice
    assert champions(models) == ("v000002", "v000001")


def test_a_demotion_gives_the_place_back_and_can_itself_be_taken_back(models: Path) -> None:
    releases.promote(models, "v000001")
    releases.promote(models, "v000002")
    assert releases.demote(models) == ("v000001", "v000002")
    assert champions(models) == ("v000001", "v000002")
    assert releases.demote(models) == ("v000002", "v000001")


def test_without_a_champion_before_there_is_nothing_to_go_back_to(models: Path) -> None:
    releases.promote(models, "v000001")
    with pytest.raises(Refused, match="mtld snapshot promote"):
        releases.demote(models)


def test_a_promotion_carried_out_again_does_not_undo_what_an_operator_decided_since(
    models: Path,
) -> None:
    releases.promote(models, "v000002")
    releases.promote(models, "v000010")
    releases.demote(models)
    releases.promote(models, "v000010")  # the daemon starts again and finishes what it had begun
    assert releases.target(models, "champion") == "v000002"
    publish(models, 11)
    releases.promote(models, "v000011")
    assert releases.target(models, "champion") == "v000011"


def test_whoever_dies_inside_a_promotion_leaves_one_of_the_two_champions(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases.promote(models, "v000001")

    def die(place: str) -> None:
        raise KeyboardInterrupt(place)

    with monkeypatch.context() as patch:
        patch.setattr(releases, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            releases.promote(models, "v000002")
    assert releases.target(models, "champion") == "v000001"
    releases.promote(models, "v000002")
    assert champions(models) == ("v000002", "v000001")


def test_what_a_removal_left_behind_is_removed_by_the_next(models: Path) -> None:
    (models / "v000001").rename(models / ".v000001.removed")
    assert releases.retain(models, 5) == []
    assert not list(models.glob(".v*"))


def test_a_pinned_release_is_kept_whatever_its_age(models: Path) -> None:
    releases.pin(models, "v000001", pinned=True)
    assert releases.retain(models, 1) == [2]
    releases.pin(models, "v000001", pinned=False)
    assert releases.retain(models, 1) == [1]


def test_decisions_that_cannot_be_read_are_told_and_nothing_is_removed(models: Path) -> None:
    (models / DECISIONS).write_text("[]")
    with pytest.raises(IntegrityError, match="restore or remove it"):
        releases.retain(models, 1)
    assert versions(models) == [10, 2, 1]


def test_a_snapshot_that_the_gate_refused_is_promoted_only_by_force(models: Path) -> None:
    path = models / "v000010" / "manifest.json"
    said = json.loads(path.read_text())
    said["verdict"] = {"decision": "refused", "reason": "a 0.5000, best 0.9000"}
    path.write_text(json.dumps(said))
    release = releases.find(models, "10")
    with pytest.raises(Refused, match=r"a 0.5000, best 0.9000.*--force"):
        releases.check_promotable(release, force=False)
    releases.check_promotable(release, force=True)
    (models / "v000010" / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(IntegrityError, match="damaged"):
        releases.check_promotable(release, force=True)


def test_an_alias_is_relative_so_that_the_directory_may_move(models: Path) -> None:
    releases.point(models, "champion", "v000002")
    assert not (models / "champion").readlink().is_absolute()
    assert (models / "champion" / "model.safetensors").read_bytes() == b"weights"
    assert not [one for one in models.iterdir() if one.name.startswith(".")]


def test_publishing_never_touches_the_champion(models: Path) -> None:
    releases.point(models, "champion", "v000001")
    releases.point(models, "latest", "v000010")
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
    releases.point(models, "latest", "v000010")
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
