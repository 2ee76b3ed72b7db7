"""Avalanche as a peer, through its strategies, plugins, buffers and benchmarks.

    python benchmarks/peers/with_avalanche.py --strategy er --seeds 3 --json

`er` is Naive with the Replay plugin and a class-balanced buffer, one experience a phase, as in Avalanche's
tutorials: the buffer is filled when a phase has ended. `er_online` makes an experience of every batch, so that
the buffer is filled while the rows arrive; `er_online_reservoir` is the same with a reservoir, which costs
more and more. `derpp` is its DER with beta > 0, `er_ace`, `lwf` and `joint` are its strategies of these names.
No logger, no metric, no evaluation while it trains.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Any

import torch
import torchvision_cpu
from command import main
from protocol import BATCH, BUFFER, LR, PHASES, Rows, Stream
from torch import Tensor, nn

LIBRARY = torchvision_cpu.declare()

from avalanche.benchmarks import benchmark_from_datasets, split_online_stream  # noqa: E402
from avalanche.benchmarks.utils import (  # noqa: E402
    ConstantSequence,
    DataAttribute,
    TaskAwareSupervisedClassificationDataset,
)
from avalanche.training import DER, ER_ACE, JointTraining, LwF, Naive  # noqa: E402
from avalanche.training.plugins import ReplayPlugin  # noqa: E402
from avalanche.training.storage_policy import (  # noqa: E402
    ClassBalancedBuffer,
    ReservoirSamplingBuffer,
)

ONLINE = {"er_online": ClassBalancedBuffer, "er_online_reservoir": ReservoirSamplingBuffer}
REPLAYED = {"er": 32, "er_ace": 32, "derpp": 64, **dict.fromkeys(ONLINE, 32)}  # rows a step
STRATEGIES = ["finetune", "lwf", "joint", *REPLAYED]


def dataset(rows: Rows) -> TaskAwareSupervisedClassificationDataset[Any]:
    """Tensors in memory as Avalanche wants them: targets to balance by, and a task label in every row."""
    x, y = rows
    task = ConstantSequence(0, len(y))
    return TaskAwareSupervisedClassificationDataset(
        [torch.utils.data.TensorDataset(x, y)],
        data_attributes=[
            DataAttribute(y.tolist(), "targets"),
            DataAttribute(task, "targets_task_labels", use_in_getitem=True),
        ],
    )


def replay(policy: Any) -> ReplayPlugin:
    return ReplayPlugin(mem_size=BUFFER, batch_size_mem=BATCH, storage_policy=policy(BUFFER))


class Avalanche:
    def __init__(self, given: Stream, strategy: str, alpha: float, beta: float) -> None:
        self._strategy = strategy
        self._stream = benchmark_from_datasets(train=[dataset(rows) for rows in given.train])
        self._net = nn.Sequential(*given.net())
        common: dict[str, Any] = {
            "model": self._net,
            "optimizer": torch.optim.SGD(self._net.parameters(), lr=LR),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": BATCH,
            "evaluator": None,
        }
        replayed = REPLAYED.get(strategy, 0)
        memory = {"mem_size": BUFFER, "batch_size_mem": replayed}
        makers = {
            "finetune": lambda: Naive(**common),
            "er": lambda: Naive(**common, plugins=[replay(ClassBalancedBuffer)]),
            "er_ace": lambda: ER_ACE(**common, **memory),
            "derpp": lambda: DER(**common, **memory, alpha=alpha, beta=beta),
            "lwf": lambda: LwF(**common, alpha=1, temperature=2),
            "joint": lambda: JointTraining(**common),
            **{
                name: lambda: Naive(**common, plugins=[replay(ONLINE[strategy])]) for name in ONLINE
            },
        }
        self._learner = makers[strategy]()
        first = (
            replayed if strategy in ONLINE else 0
        )  # elsewhere the buffer is empty until a phase ends
        self.rows = [BATCH + first, *[BATCH + replayed] * (PHASES - 1)]

    def learn(self, phase: int) -> None:
        experiences = [self._stream.train_stream[phase]]
        if self._strategy == "joint":
            experiences = [list(self._stream.train_stream)] if phase == PHASES - 1 else []
        elif self._strategy in ONLINE:
            experiences = split_online_stream(experiences, experience_size=BATCH)
        for experience in experiences:
            self._learner.train(experience, eval_streams=[], num_workers=0)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        self._net.eval()
        return self._net(x)


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("avalanche-lib", "torchvision", "numpy")}


if __name__ == "__main__":
    logging.captureWarnings(capture=True)  # what it will remove in 0.7, and that nothing is logged
    logging.disable(logging.WARNING)
    main("Avalanche", Avalanche, STRATEGIES, (0.2, 1.0), versions)
