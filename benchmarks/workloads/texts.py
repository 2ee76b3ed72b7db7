"""W4: spam, sentiment, intent and language from raw strings, one after another, a head each, on one shared encoder.

Mails (SpamAssassin: subject and text, each different one once), reviews (Amazon fine foods, its own split), spoken
commands (Home Assistant, split by sentence template) and paragraphs in 28 languages (declaration of human rights,
four times, since they are few).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtl_engine.types import Array, TaskSpec
from workloads import sources
from workloads.base import Phase, Workload, divided, parted

LANGUAGES = (
    "bul", "cat", "ces", "dan", "deu_1996", "ell_monotonic", "eng", "est", "fin", "fra", "hrv", "hun", "ind", "isl",
    "ita", "lav", "lit", "nld", "nob", "pol", "por_PT", "ron_2006", "rus", "slk", "slv", "spa", "swe", "tur",
)  # fmt: skip
MIN_TEMPLATES = 5  # an intent with fewer cannot be split by template
TASKS = ("spam", "sentiment", "intent", "language")
PASSES = {"language": 4}  # its 1,300 rows alone would be over after 40 steps
ENGINE = {
    "trunk": {"width": 256, "depth": 2, "norm": "layer"},
    "buffer_rows": 1000,
    "replay_batch": 32,
}


def texts(split: str) -> Workload:
    """W4."""
    return Workload(specs(), phases(split), every=25, engine=ENGINE, eval_rows=250)


def specs() -> tuple[TaskSpec, ...]:
    return tuple(TaskSpec(task, modality="text") for task in TASKS)


def phases(split: str) -> tuple[Phase, ...]:
    """A phase for every task."""
    foods = sources.fine_foods()
    found = (
        parted(split, *_columns(sources.spamassassin())),
        divided(
            split, _strings(foods[0]), np.array(foods[1]), _strings(foods[2]), np.array(foods[3])
        ),
        _intents(split),
        parted(split, *_columns(sources.declarations(LANGUAGES))),
    )
    return tuple(
        Phase(task, task, *data, passes=PASSES.get(task, 1))
        for task, data in zip(TASKS, found, strict=True)
    )


def _intents(split: str) -> tuple[Array, Array, Array, Array]:
    """A quarter of the templates of every intent is for scoring; for validation a quarter of the others is."""
    drawn = sources.utterances()
    draw = np.random.default_rng(0)
    train: dict[str, str] = {}
    score: dict[str, str] = {}
    for intent in sorted({intent for _, intent, _ in drawn}):
        templates = sorted({template for _, name, template in drawn if name == intent})
        if len(templates) < MIN_TEMPLATES:
            continue
        order = [templates[k] for k in draw.permutation(len(templates))]
        scored, rest = _quarter(order)
        if split == "validation":
            scored, rest = _quarter(rest)
        for text, name, template in drawn:
            if name == intent and template in scored + rest:
                (score if template in scored else train).setdefault(text, intent)
    fresh = {text: intent for text, intent in score.items() if text not in train}
    return *_columns(list(train.items())), *_columns(list(fresh.items()))


def _quarter(templates: list[str]) -> tuple[list[str], list[str]]:
    cut = max(1, len(templates) // 4)
    return templates[:cut], templates[cut:]


def _columns(rows: Sequence[tuple[str, str]]) -> tuple[Array, Array]:
    return _strings([text for text, _ in rows]), np.array([label for _, label in rows])


def _strings(given: Sequence[str]) -> Array:
    return np.array(given, dtype=object)
