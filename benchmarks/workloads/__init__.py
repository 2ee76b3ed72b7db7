"""The streams of `benchmarks/continual.py`, by name; each is made from the data of a split."""

from __future__ import annotations

from collections.abc import Callable

from workloads import images, mixed, packages, tables, texts
from workloads.base import Workload

WORKLOADS: dict[str, Callable[[str], Workload]] = {
    "W1": images.split_fashion,
    "W1s": images.split_fashion_events,
    "W2": images.split_fashion_cnn,
    "W3": images.permuted_fashion,
    "W4": texts.texts,
    "W5": mixed.mixed,
    "W6": packages.packages,
    "mnist5k": images.split_mnist5k,
    "letters": tables.letters,
    "satimage": tables.satimage,
    "regressions": tables.regressions,
}
