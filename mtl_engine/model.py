"""The network: encoders by input table, one trunk, heads by task; every parameter has a stable name."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_engine import rng
from mtl_engine.components import build
from mtl_engine.encoders import ENCODERS
from mtl_engine.encoders.base import Encoder
from mtl_engine.errors import EngineError, StateError
from mtl_engine.inputs import InputTable
from mtl_engine.names import unknown
from mtl_engine.tape import Dense, layers_of
from mtl_engine.types import Json

_NORMS = ("layer", "none")


@dataclass(frozen=True, slots=True)
class TrunkSpec:
    """`depth` activations of `width` features; the first acts on the encoder's features."""

    width: int = 256
    depth: int = 2
    norm: str = "layer"

    def __post_init__(self) -> None:
        for name, value, high in (("width", self.width, 65_536), ("depth", self.depth, 64)):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise EngineError(
                    f"{name} of the trunk is {value!r}: allowed are whole numbers from 1 to {high}"
                )
        if self.norm not in _NORMS:
            raise EngineError(unknown("norm of the trunk", self.norm, _NORMS))


class Trunk(nn.Module):
    """f = act(norm(h)), then depth - 1 times f = act(norm(Linear(f))); act is ReLU, norm is LayerNorm or nothing."""

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        self.linears = nn.ModuleList(
            [nn.Linear(spec.width, spec.width) for _ in range(spec.depth - 1)]
        )
        norms = (
            [nn.LayerNorm(spec.width) for _ in range(spec.depth)] if spec.norm == "layer" else []
        )
        self.norms = nn.ModuleList(norms)
        self.sequence: list[nn.Module] = []  # the layers as they are passed
        for k in range(spec.depth):
            self.sequence += [self.linears[k - 1]] if k else []
            self.sequence += [self.norms[k]] if norms else []
            self.sequence.append(nn.ReLU())
        self.layers = layers_of(self.sequence)

    def forward(self, h_BD: Tensor) -> Tensor:
        for layer in self.sequence:
            h_BD = layer(h_BD)
        return h_BD


class Head(nn.Module):
    """A linear layer whose columns are added one after the other; column c is initialised from (seed, task, c).

    `gain` multiplies the outputs: it sets how far a step of the optimizer moves them.
    """

    def __init__(
        self, width: int, task: str, seed: int, device: torch.device, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.task, self.seed, self.gain = task, seed, gain
        self.columns = 0
        self.weight = nn.Parameter(torch.zeros(0, width, device=device))
        self.bias = nn.Parameter(torch.zeros(0, device=device))
        self.layer = Dense(self.weight, self.bias)

    def forward(self, f_BD: Tensor) -> Tensor:
        z_BC = functional.linear(f_BD, self.weight, self.bias)
        return z_BC if self.gain == 1.0 else z_BC * self.gain

    def grow(self, columns: int) -> None:
        """New parameters of more columns; the old columns keep their values, frozen stays frozen."""
        width, trains = self.weight.shape[1], self.weight.requires_grad
        bound = 1 / math.sqrt(width)
        fresh = [
            torch.from_numpy(
                (2 * rng.uniform(self.seed, f"head:{self.task}", column, width + 1) - 1) * bound
            ).float()
            for column in range(self.columns, columns)
        ]
        added = torch.stack(fresh).to(self.weight.device)
        self.weight = nn.Parameter(
            torch.cat([self.weight.detach(), added[:, :-1]]), requires_grad=trains
        )
        self.bias = nn.Parameter(
            torch.cat([self.bias.detach(), added[:, -1]]), requires_grad=trains
        )
        self.layer = Dense(self.weight, self.bias)
        self.columns = columns


class Model(nn.Module):
    """Parameters are named encoders.<table>.…, trunk.… and heads.task:<name>.{weight,bias}."""

    def __init__(self, trunk: TrunkSpec, seed: int, device: torch.device) -> None:
        super().__init__()
        self.spec, self.seed, self.device = trunk, seed, device
        self.tables: dict[str, InputTable] = {}
        self.table_of: dict[str, str] = {}  # the input table of every head
        self.encoders = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self._encoder_of: dict[str, Encoder] = {}  # the same two once more, by table and by task:
        self._head_of: dict[str, Head] = {}  # a lookup in a ModuleDict is slow
        with _seeded(seed, "trunk"):
            self.trunk = Trunk(trunk).to(device)

    def add_encoder(self, table: InputTable) -> None:
        with _seeded(self.seed, f"encoder:{table.name}"):
            encoder = make_encoder(table, self.spec.width).to(self.device)
        self.encoders[table.name] = self._encoder_of[table.name] = encoder
        self.tables[table.name] = table

    def add_head(self, task: str, table: str, gain: float = 1.0) -> None:
        head = Head(self.spec.width, task, self.seed, self.device, gain)
        self.heads[_key(task)] = self._head_of[task] = head
        self.table_of[task] = table

    def grow_head(self, task: str, columns: int) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
        """Old and new parameters by name, for those who keep something beside a parameter."""
        head = self._head_of[task]
        old = dict(head.named_parameters())
        head.grow(columns)
        return {
            f"heads.{_key(task)}.{name}": (old[name], new) for name, new in head.named_parameters()
        }

    def freeze_head(self, task: str, *, frozen: bool) -> None:
        for parameter in self._head_of[task].parameters():
            parameter.requires_grad_(not frozen)
            parameter.grad = None

    def is_frozen(self, task: str) -> bool:
        return not self._head_of[task].weight.requires_grad

    def remove_head(self, task: str) -> list[str]:
        """Removes the head, and its encoder when no other head uses it; returns the names of what went."""
        before = {name for name, _ in self.named_parameters()}
        table = self.table_of.pop(task)
        del self.heads[_key(task)], self._head_of[task]
        if table not in self.table_of.values():
            del self.encoders[table], self._encoder_of[table], self.tables[table]
        return sorted(before - {name for name, _ in self.named_parameters()})

    def columns(self, task: str) -> int:
        """Columns of a task's head, 0 where there is none yet."""
        head = self._head_of.get(task)
        return head.columns if head is not None else 0

    def encoder(self, table: str) -> Encoder:
        return self._encoder_of[table]

    def head(self, task: str) -> Head:
        return self._head_of[task]

    def decode(self, table: str, x: Tensor, length_B: Tensor | None) -> Tensor:
        """Rows of the log or of replay as `encode` is given them, once for all who encode them in a step."""
        return self._encoder_of[table].decode(x, length_B)

    def encode(self, table: str, x: Tensor, length_B: Tensor | None) -> Tensor:
        return self._encoder_of[table](x, length_B)

    def observe(self, table: str, x: Tensor, length_B: Tensor | None, num_rows: int) -> None:
        """Show the encoder its first `num_rows` rows, if it keeps statistics."""
        encoder = self._encoder_of[table]
        if encoder.observes:
            encoder.observe(x[:num_rows], None if length_B is None else length_B[:num_rows])

    def z(self, task: str, f_BD: Tensor) -> Tensor:
        """Outputs of a task's head."""
        return self._head_of[task](f_BD)

    def forward(self, task: str, x: Tensor, length_B: Tensor | None = None) -> Tensor:
        return self.z(task, self.trunk(self.encode(self.table_of[task], x, length_B)))

    @contextmanager
    def using(self, values: Mapping[str, Tensor]) -> Generator[None]:
        """The model with other values for its parameters, which are put back afterwards; copies nothing."""
        named = self.named_parameters() if values else ()
        found = [(p, p.data, values[name]) for name, p in named if name in values]
        try:
            for parameter, _, value in found:
                parameter.data = value
            yield
        finally:
            for parameter, data, _ in found:
                parameter.data = data

    def structure(self) -> Json:
        """What `restructure` needs to make a model of the same shape."""
        return {
            "tables": [table.to_dict() for table in self.tables.values()],
            "heads": [
                [task, table, self.columns(task), self.is_frozen(task), self._head_of[task].gain]
                for task, table in self.table_of.items()
            ],
        }

    def restructure(self, structure: Json) -> None:
        """Encoders and heads as in `structure`, with initial values."""
        for found in (self.encoders, self.heads, self.tables, self.table_of):
            found.clear()
        self._encoder_of.clear()
        self._head_of.clear()
        for table in structure["tables"]:
            self.add_encoder(InputTable.from_dict(table))
        for task, table, columns, frozen, gain in structure["heads"]:
            self.add_head(task, table, gain)
            if columns:
                self.grow_head(task, columns)
            self.freeze_head(task, frozen=frozen)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, live."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def load_tensors(self, values: Mapping[str, Tensor]) -> None:
        """Strict: the same names, shapes and dtypes."""
        own = self.tensors()
        if own.keys() != values.keys():
            raise StateError(
                f"tensors of the model differ: missing {sorted(own.keys() - values.keys())}, not expected {sorted(values.keys() - own.keys())}"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                value = values[name]
                if value.shape != tensor.shape or value.dtype != tensor.dtype:
                    raise StateError(
                        f"{name} is {value.dtype} {tuple(value.shape)}: this model needs {tensor.dtype} {tuple(tensor.shape)}"
                    )
                tensor.copy_(value)


def make_encoder(table: InputTable, width: int) -> Encoder:
    given = {"scale": table.scale} if table.modality == "image" else {}
    return build(ENCODERS, table.encoder, "encoder", shape=table.shape, width=width, **given)


def _key(task: str) -> str:
    return f"task:{task}"  # a bare name might be one that nn.ModuleDict keeps for itself, such as "type"


@contextmanager
def _seeded(seed: int, name: str) -> Generator[None]:
    """Initial values from (seed, name) alone; torch's own generator is as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        # Its own alone: torch.manual_seed seeds those of every device, and writes down where it was called from.
        torch.default_generator.manual_seed(int(rng.integers(seed, f"init:{name}", 0, 1, 2**53)[0]))
        yield
