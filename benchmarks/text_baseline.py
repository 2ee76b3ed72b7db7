"""What does the plainest known text classifier reach on the rows of W6, all shuffled and seen once?

TF-IDF of n-grams, then logistic regression by SGD over one epoch (scikit-learn), on W6's training rows
(`workloads/packages.py`: twenty sections of Debian, told from a package's one line) cut to as many bytes as the engine
reads. N-grams (of words, or of characters within words) and the strength of the penalty are those with the best accuracy on
the validation split over the same seeds; then the test rows are scored. Seeds decide the order of the rows. The number is
that of `continual.py`: accuracy in percent, mean over the phases' test rows. The baseline has seen all training lines,
without labels, before its first step: they decide its vocabulary and the weights of its n-grams.

`engine` is what is recorded of W6 in results/continual.json: `joint` learned the same rows in a random order too, `default`
the stream of two sections a phase, which the baseline is spared; both with the engine's own settings, while those of the
baseline are chosen for W6. `same_list` says whether it was the same list of packages.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from time import process_time
from typing import Any

import numpy as np
import results
from report import finish
from workloads import packages
from workloads.base import Workload

from mtl_engine.types import Array

WORKLOAD = "W6"
NGRAMS: dict[str, dict[str, Any]] = {
    "words": {"analyzer": "word", "ngram_range": (1, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}
ALPHAS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Rows of all phases as sparse vectors, with their sections, and the phase of every row to score."""

    x: Any
    y: Array
    test_x: Any
    test_y: Array
    test_phase: Array


def cut(lines: Array, max_bytes: int) -> list[str]:
    """Lines as the engine reads them: their first bytes."""
    return [line.encode()[:max_bytes].decode(errors="ignore") for line in lines.tolist()]


def vectors(workload: Workload, ngrams: str) -> Vectors:
    """All rows of a workload; the vocabulary and the weights are those of the training rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    (spec,), phases = workload.tasks, workload.phases
    make: Any = TfidfVectorizer  # untyped
    vectorizer = make(**NGRAMS[ngrams])
    return Vectors(
        vectorizer.fit_transform(cut(np.concatenate([p.x for p in phases]), spec.max_bytes)),
        np.concatenate([p.y for p in phases]),
        vectorizer.transform(cut(np.concatenate([p.test_x for p in phases]), spec.max_bytes)),
        np.concatenate([p.test_y for p in phases]),
        np.repeat(np.arange(len(phases)), [len(p.test_y) for p in phases]),
    )


def accuracy(given: Vectors, alpha: float, seed: int) -> float:
    """Mean over phases after one pass over the rows in an order of this seed."""
    from sklearn.linear_model import SGDClassifier

    make: Any = SGDClassifier  # untyped
    order = np.random.default_rng(seed).permutation(len(given.y))
    learner = make(loss="log_loss", max_iter=1, tol=None, alpha=alpha, shuffle=False)
    learner.fit(given.x[order], given.y[order])
    right_N = learner.predict(given.test_x) == given.test_y
    count_K = np.bincount(given.test_phase)
    return float(np.mean(100 * np.bincount(given.test_phase, weights=right_N) / count_K))


def best(workload: Workload, seeds: int) -> tuple[dict[str, float], str, float]:
    """Of the validation split: the accuracy of every candidate, and n-grams and penalty of the best."""
    known = {ngrams: vectors(workload, ngrams) for ngrams in NGRAMS}
    found = {
        (ngrams, alpha): _mean([accuracy(known[ngrams], alpha, seed) for seed in range(seeds)])
        for ngrams, alpha in product(NGRAMS, ALPHAS)
    }
    named = {f"{ngrams}, alpha {alpha:g}": score for (ngrams, alpha), score in found.items()}
    return named, *max(found, key=lambda candidate: found[candidate])


def recorded(data: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of the engine on W6 by strategy, from the file of results."""
    return {
        entry["strategy"]: {
            **{key: entry[key] for key in ("accuracy_mean", "accuracy_std", "seeds", "git")},
            "same_list": entry.get("data") == data,
        }
        for entry in results.read()
        if entry["workload"] == WORKLOAD
    }


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    tried, ngrams, alpha = best(packages.packages("validation"), options.seeds)
    workload = packages.packages("test")
    begun_s = process_time()
    given = vectors(workload, ngrams)
    scores = [accuracy(given, alpha, seed) for seed in range(options.seeds)]
    figures: dict[str, Any] = {
        "workload": WORKLOAD, "seeds": options.seeds, "rows": len(given.y), "test_rows": len(given.test_y),
        "ngrams": ngrams, "alpha": alpha, "vocabulary": given.x.shape[1],
        "accuracy_mean": _mean(scores),
        "accuracy_std": round(float(np.std(scores, ddof=1 if options.seeds > 1 else 0)), 2),
        "accuracy_each": [round(score, 2) for score in scores],
        "validation": tried, "engine": recorded(workload.data),
        "cpu_seconds": round(process_time() - begun_s, 1), "data": workload.data,
    }  # fmt: skip
    finish("text_baseline", figures, options.save)


if __name__ == "__main__":
    main()
