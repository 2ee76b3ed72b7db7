"""A strategy with every term that the search for the default tried; what won is `strategies/dark_er.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtl_engine.strategies.base import Step, Strategy, TaskStep
from mtl_engine.strategies.loss import Loss
from mtl_engine.tasks.classification import Classification

_SMOOTH = 0.5
_CLOSED = -1e9


class Candidate(Strategy):
    """L = CE(stream + shift) + memory CE(replayed + shift) + alpha D(replayed, stored) + kd T^2 KL(teacher || model).

    - shift: `stream_adjust` and `memory_adjust` times log(rows of the class in the step); with `rate` > 0 in a running
      mean over steps instead. `close` is subtracted from the logits that ER-ACE closes for stream rows.
    - `balance`: rows weigh (rows of their class in the step)^-balance, and the shift is that of what is left.
    - D by `distance`: "mse", "huber" (bound 1) and "centred" (mse without the mean over columns) over stored entries;
      "sum", "huber_sum" the same as sums over columns / 10; "kl" = T^2 KL of softmaxes.
    - the teacher sees `kd_rows` "all", "memory" or "stream"; with `kd_old` only classes that the stream rows lack.
      With teacher_every = 8 it is the averaged model.
    """

    keeps: ClassVar[frozenset[str]] = frozenset({"logits"})
    distils: ClassVar[str] = "all"
    autograd: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913  (the constructor is the search space)
        self, *, memory: float = 1.0, stream_adjust: float = 1.0, memory_adjust: float = 1.0, rate: float = 0.0,
        close: float = 0.0, balance: float = 0.0, alpha: float = 0.0, distance: str = "mse", temperature: float = 2.0,
        kd: float = 0.0, kd_rows: str = "all", kd_old: bool = False,
    ) -> None:  # fmt: skip
        self.memory, self.adjust, self.rate = memory, (stream_adjust, memory_adjust), rate
        self.close, self.balance = close, balance
        self.alpha, self.distance, self.temperature = alpha, distance, temperature
        self.kd, self.kd_rows, self.kd_old = kd, kd_rows, kd_old
        self._mean_C = np.zeros(0)  # running class counts: a search does not resume

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: self._loss(task) for name, task in step.tasks.items()}

    def _loss(self, task: TaskStep) -> Loss:
        assert isinstance(task.kind, Classification)
        task, stream_C, memory_C = self._shifts(task)
        loss = task.stream_loss(stream_C)
        if not task.num_memory:
            return loss
        loss = loss + self.memory * task.memory_loss(memory_C)
        if self.alpha and task.stored is not None:
            loss = loss + self.alpha * self._distance(task)
        return loss + self._taught(task) if self.kd else loss

    def _shifts(self, task: TaskStep) -> tuple[TaskStep, np.ndarray, np.ndarray]:
        columns = task.z_BC.shape[1]
        y = np.concatenate([task.stream_y, task.memory_y])
        count_C = np.bincount(y, minlength=columns).astype(float)
        if self.balance and task.num_memory:
            weight = count_C[y] ** -self.balance
            task = replace(task, weight=torch.from_numpy((weight / weight.mean()).astype(np.float32)))  # fmt: skip
        used_C = self._running(count_C) if self.rate else count_C
        log_C = (1 - self.balance) * np.log(used_C + _SMOOTH)
        stream_C, memory_C = (strength * log_C for strength in self.adjust)
        if self.close and task.num_memory:
            assert isinstance(task.kind, Classification)
            stream_C = stream_C - self.close * ~task.kind.open_C(task.stream_y, columns)
        return task, stream_C.astype(np.float32), memory_C.astype(np.float32)

    def _running(self, count_C: np.ndarray) -> np.ndarray:
        known = np.pad(self._mean_C, (0, len(count_C) - len(self._mean_C)))
        mean_C = self.rate * known + (1 - self.rate) * count_C
        self._mean_C = np.where((known == 0) & (count_C > 0), count_C, mean_C)
        return self._mean_C

    def _distance(self, task: TaskStep) -> Tensor:
        assert task.stored is not None
        s_MC, valid_MC = task.stored.z_MC.float(), task.stored.valid_MC
        z_MC = task.z_BC[task.num_stream :, : s_MC.shape[1]]
        valid_MC = torch.ones_like(s_MC) if valid_MC is None else valid_MC.float()
        if self.distance == "kl":
            shut_MC, t = (1 - valid_MC) * _CLOSED, self.temperature
            p_MC = functional.log_softmax(s_MC / t + shut_MC, 1)
            q_MC = functional.log_softmax(z_MC / t + shut_MC, 1)
            return t**2 * (p_MC.exp() * (p_MC - q_MC)).sum(1).mean()
        d_MC = (z_MC - s_MC) * valid_MC
        if self.distance == "centred":
            d_MC = (d_MC - d_MC.sum(1, keepdim=True) / valid_MC.sum(1, keepdim=True)) * valid_MC
        c_MC = d_MC.detach().clamp(-1, 1) if self.distance.startswith("huber") else d_MC
        h_MC = c_MC * (2 * d_MC - c_MC)
        entries = 10 * len(z_MC) if self.distance.endswith("sum") else valid_MC.sum()
        return h_MC.sum() / entries

    def _taught(self, task: TaskStep) -> Tensor:
        teacher_BC, start, stop = task.teacher(), 0, len(task.z_BC)
        if teacher_BC is None:
            return task.z_BC.new_zeros(())
        start = task.num_stream if self.kd_rows == "memory" else 0
        stop = task.num_stream if self.kd_rows == "stream" else stop
        z_BC, teacher_BC = task.z_BC[start:stop], teacher_BC[start:stop]
        if self.kd_old:
            old_C = np.setdiff1d(np.arange(teacher_BC.shape[1]), task.stream_y)
            if len(old_C) < 2:
                return z_BC.new_zeros(())
            z_BC, teacher_BC = z_BC[:, old_C], teacher_BC[:, old_C]
        return self.kd * task.kind.distil(z_BC, teacher_BC, self.temperature)
