"""Plain PyTorch as a peer: experience replay and DER++ with a reservoir, in one small file.

    python benchmarks/peers/plain.py --strategy er --seeds 3 --json

`er` joins 32 rows of the stream and 32 of the buffer in one cross-entropy. `derpp` draws twice 32 rows, one
draw for the distance to the stored logits (times alpha), one for the cross-entropy (times beta), in one
forward pass with the stream's rows. The buffer is a reservoir: every row of the stream is in it with the
same probability. `finetune` has no buffer, `joint` learns all phases shuffled together in one pass.
"""

from __future__ import annotations

import random

import torch
from command import main
from protocol import BATCH, BUFFER, CLASSES, LR, PHASES, Stream
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

DRAWS = {"finetune": 0, "joint": 0, "er": 1, "derpp": 2}  # of 32 rows each, in one step


class Reservoir:
    """A uniform sample of all rows that were ever offered."""

    def __init__(self, row: Tensor) -> None:
        self.x = torch.empty(BUFFER, *row.shape)
        self.y = torch.empty(BUFFER, dtype=torch.long)
        self.z = torch.empty(BUFFER, CLASSES)
        self.offered = 0

    def offer(self, x: Tensor, y: Tensor, z: Tensor) -> None:
        kept: dict[int, int] = {}  # slot -> row; a later row takes the slot of an earlier one
        for row in range(len(y)):
            first = self.offered < BUFFER
            slot = self.offered if first else random.randrange(self.offered + 1)  # noqa: S311
            self.offered += 1
            if slot < BUFFER:
                kept[slot] = row
        if kept:
            slots, rows = torch.tensor(list(kept)), torch.tensor(list(kept.values()))
            self.x[slots], self.y[slots], self.z[slots] = x[rows], y[rows], z[rows]

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.randint(min(self.offered, BUFFER), (BATCH,))
        return self.x[at], self.y[at], self.z[at]


class Plain:
    def __init__(self, given: Stream, strategy: str, alpha: float, beta: float) -> None:
        self._given, self._strategy = given, strategy
        self._alpha, self._beta = alpha, beta
        self._net = nn.Sequential(*given.net())
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=LR)
        self._buffer = Reservoir(given.train[0][0][0])
        self.rows = [BATCH * (1 + DRAWS[strategy])] * PHASES

    def learn(self, phase: int) -> None:
        if self._strategy != "joint":
            for x, y in self._given.batches(phase):
                self._step(x, y)
        elif phase == PHASES - 1:
            x, y = (torch.cat(parts) for parts in zip(*self._given.train, strict=True))
            for rows in torch.randperm(len(y)).split(BATCH):
                self._step(x[rows], y[rows])

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        return self._net(x)

    def _step(self, x: Tensor, y: Tensor) -> None:
        draws = DRAWS[self._strategy] if self._buffer.offered else 0
        old = [self._buffer.draw() for _ in range(draws)]
        z = self._net(torch.cat([x, *(drawn[0] for drawn in old)]))
        loss = self._derpp(z, y, old) if draws == 2 else self._er(z, y, old)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        if DRAWS[self._strategy]:
            self._buffer.offer(x, y, z.detach()[: len(y)])

    def _er(self, z: Tensor, y: Tensor, old: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        return cross_entropy(z, torch.cat([y, *(drawn[1] for drawn in old)]))

    def _derpp(self, z: Tensor, y: Tensor, old: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        now, distilled, replayed = z.split([len(y), BATCH, BATCH])
        return (
            cross_entropy(now, y)
            + self._alpha * mse_loss(distilled, old[0][2])
            + self._beta * cross_entropy(replayed, old[1][1])
        )


if __name__ == "__main__":
    main("plain PyTorch", Plain, list(DRAWS), (1.0, 1.0), dict)
