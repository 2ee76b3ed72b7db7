"""Mammoth as a peer, through its models, its buffer and its registries of data sets and backbones.

    MAMMOTH=path/to/its/checkout python benchmarks/peers/with_mammoth.py --strategy er --seeds 3 --json

The models are driven as its trainer drives them (begin of a task, observe, end of a task), on batches that
are tensors in memory, without its loaders of single images, progress bars and loggers. README.md names the
commit and says what stands in for what its data sets import and ours does not need.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import torch
import torchvision_cpu
from command import main
from protocol import BATCH, BUFFER, CLASSES, LR, PHASES, Rows, Stream
from torch import Tensor
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARY = torchvision_cpu.declare()
CHECKOUT = os.environ.get("MAMMOTH") or sys.exit(
    "MAMMOTH must be the path of a checkout of Mammoth."
)
NAMES = {"finetune": "sgd", **{name: name for name in ("er", "er_ace", "derpp", "lwf", "joint")}}
REPLAYED = {"er": [32] * PHASES, "er_ace": [0, 32, 32, 32, 32], "derpp": [64] * PHASES}

os.environ.update(LOG_LEVEL="CRITICAL", TQDM_DISABLE="1")
sys.modules["open_clip"] = (
    MagicMock()
)  # its other data sets fetch a CLIP model when they are imported
sys.path.insert(0, CHECKOUT)
THREADS = torch.get_num_threads()
with contextlib.redirect_stdout(sys.stderr):
    from backbone import MammothBackbone, register_backbone
    from datasets import register_dataset
    from datasets.utils.continual_dataset import ContinualDataset
    from utils.notebooks import load_runner


class Loader:
    """Batches of tensors; `dataset` is what LwF looks into to store its teacher's logits."""

    def __init__(self, rows: Rows) -> None:
        self.data, self.targets = rows
        self.dataset = self
        self.extra_return_fields: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.data[row], self.targets[row], self.data[row]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        extra = [getattr(self, name) for name in self.extra_return_fields]
        columns = [self.data, self.targets, self.data, *extra]
        return zip(*(column.split(BATCH) for column in columns), strict=True)


class Net(MammothBackbone):
    def __init__(self) -> None:
        super().__init__()
        self._features, self.classifier = Phases.given.net()

    def forward(self, x: Tensor, returnt: str = "out") -> Tensor:
        features = self._features(x)
        return features if returnt == "features" else self.classifier(features)


class Phases(ContinualDataset):
    given: Stream  # set before Mammoth makes one
    NAME, SIZE = "peer-phases", (28, 28)
    SETTING, N_CLASSES_PER_TASK, N_TASKS, N_CLASSES = "class-il", CLASSES // PHASES, PHASES, CLASSES

    def get_data_loaders(self) -> tuple[Loader, Loader]:
        self.c_task += 1
        self.train_loader = Loader(self.given.train[self.c_task])
        self.test_loaders.append(Loader(self.given.test[self.c_task]))
        return self.train_loader, self.test_loaders[-1]

    get_backbone = staticmethod(lambda: "peer-net")
    get_loss = staticmethod(lambda: cross_entropy)
    get_transform = get_normalization_transform = staticmethod(lambda: None)


with contextlib.redirect_stdout(sys.stderr):  # registering prints
    register_backbone("peer-net")(Net)
    register_dataset("peer-phases")(Phases)


class Mammoth:
    def __init__(self, given: Stream, strategy: str, alpha: float, beta: float) -> None:
        Phases.given = given
        if given.workload == "W3":
            Phases.SETTING, Phases.N_CLASSES_PER_TASK = "domain-il", CLASSES
        arguments: dict[str, Any] = {"lr": LR, "n_epochs": 1, "batch_size": BATCH, "num_workers": 0}
        if strategy in REPLAYED:
            arguments |= {"buffer_size": BUFFER, "minibatch_size": BATCH}
        own = {"derpp": {"alpha": alpha, "beta": beta}, "er_ace": {"use_custom_classifier": 0}}
        arguments |= {"backbone": "peer-net", **own.get(strategy, {})}
        with contextlib.redirect_stdout(sys.stderr):
            self._model, self._phases = load_runner(NAMES[strategy], "peer-phases", arguments)
        torch.set_num_threads(THREADS)  # importing its main program sets 2
        self.rows = [BATCH + more for more in REPLAYED.get(strategy, [0] * PHASES)]

    def learn(self, phase: int) -> None:
        loader, _ = self._phases.get_data_loaders()  # of the phase after the last one
        assert self._phases.c_task == phase
        self._model.net.train()
        self._model.meta_begin_task(self._phases)
        for x, y, raw, *extra in loader:
            named = dict(zip(loader.extra_return_fields, extra, strict=True))
            self._model.meta_observe(x, y, raw, epoch=0, **named)
        self._model.meta_end_task(self._phases)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        self._model.net.eval()
        return self._model(x)


def versions() -> dict[str, str]:
    command = ["git", "-C", CHECKOUT, "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    packages = ("torchvision", "numpy", "kornia", "timm")
    return {"mammoth": commit, **{name: version(name) for name in packages}}


if __name__ == "__main__":
    main("Mammoth", Mammoth, list(NAMES), (1.0, 1.0), versions)
