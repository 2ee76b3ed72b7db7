"""The tasks that exist, what their first rows decided, and the check that every row passes before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mtl_engine import inputs
from mtl_engine.components import Spec, build, normalised
from mtl_engine.encoders import DEFAULTS, ENCODERS, MODALITY
from mtl_engine.errors import BadRows, EngineError
from mtl_engine.inputs import InputTable
from mtl_engine.model import make_encoder
from mtl_engine.names import unknown
from mtl_engine.tasks import TASKS
from mtl_engine.tasks.base import TaskType
from mtl_engine.types import MODALITIES, Json, Rows, Target, TaskSpec

_SMALLEST = {"image": (8, 8), "text": (8,), "table": (1,), "embedding": (1,)}
_MAX_COLUMNS = 65_536  # of a table whose width only its encoder's arguments tell


@dataclass(slots=True)
class Task:
    """A task at work. `number` is never used again; `table` is None until its first rows came."""

    spec: TaskSpec
    number: int
    kind: TaskType
    encoder: Json
    table: str | None = None


class Registry:
    """Tasks by name in the order in which they were added, and the input tables they read."""

    def __init__(self, encoder: Spec | None, width: int) -> None:
        self.tasks: dict[str, Task] = {}
        self.tables: dict[str, InputTable] = {}
        self._defaults = _defaults(encoder)
        self._width = width
        self._next = 1

    def __getitem__(self, name: str) -> Task:
        if name not in self.tasks:
            raise EngineError(unknown("task", name, self.tasks))
        return self.tasks[name]

    def add(self, spec: TaskSpec) -> Task:
        """A new task; adding the same specification again changes nothing."""
        if spec.name in self.tasks:
            if self.tasks[spec.name].spec == spec:
                return self.tasks[spec.name]
            raise EngineError(
                f"task {spec.name} exists with another specification: update it, or remove it first"
            )
        task = self._made(spec, self._next)
        _check_arguments(spec, task.encoder, self._width)
        self._next += 1
        self.tasks[spec.name] = task
        return task

    def shares(self, focused: str | None, factor: float) -> dict[int, tuple[float, float]]:
        """Replay share and minimum of every task, by number; the focused one's share is multiplied."""
        return {
            task.number: (
                task.spec.share * (factor if name == focused else 1.0),
                task.spec.min_share,
            )
            for name, task in self.tasks.items()
        }

    def remove(self, name: str) -> Task:
        task = self[name]
        del self.tasks[name]
        self.tables = {
            t: table
            for t, table in self.tables.items()
            if any(other.table == t for other in self.tasks.values())
        }
        return task

    def form(self, name: str) -> tuple[object, ...] | None:
        """What a task's rows and answers look like, None before its first row; models that agree on it can be compared."""
        task = self.tasks.get(name)
        table = None if task is None else self.tables.get(task.table or "")
        if task is None or table is None:
            return None
        spec = task.spec
        columns = () if spec.kind == "classification" else (spec.targets, len(spec.classes))
        return spec.kind, *columns, table.modality, table.shape

    def tasks_of(self) -> dict[str, list[str]]:
        """Names of the tasks of every input table."""
        return {
            table: [name for name, task in self.tasks.items() if task.table == table]
            for table in self.tables
        }

    def prepare(self, task: str | None, x: Any, y: Any, mask: Any, weight: Any) -> Rows:
        """Checked rows of one event; new labels get columns now. Raises BadRows and then changes nothing."""
        known = self.tasks.get(task or "")
        if known is not None and known.table is not None:
            return self._of_one(known, self.tables[known.table], x, (y, mask, weight))
        names, labels = self._named(task, y, mask, weight)
        found, length_B, table = self._inputs(names, x)
        checked = {name: self.tasks[name].kind.check(*labels[name], len(found)) for name in names}
        self._bind(names, table)
        for name, (target, fresh) in checked.items():
            self.tasks[name].kind.admit(target, fresh)
        return Rows(
            table.name, found, length_B, {name: target for name, (target, _) in checked.items()}
        )

    def _of_one(self, task: Task, table: InputTable, x: Any, labels: tuple[Any, Any, Any]) -> Rows:
        """The usual case: rows of one task that has had some before."""
        found, length_B = inputs.check(task.spec, task.encoder, table, x)
        target, fresh = task.kind.check(*labels, len(found))
        task.kind.admit(target, fresh)
        return Rows(table.name, found, length_B, {task.spec.name: target})

    def check(self, task: str, x: Any, y: Any = None) -> tuple[Rows, Target]:
        """Checked rows for scoring or prediction; changes nothing. Unknown labels become column -1."""
        name = self[task].spec.name
        found, length_B, table = self._inputs([name], x)
        target, _ = self.tasks[name].kind.check(y, None, None, len(found), closed=True)
        if self.tasks[name].table is None:
            raise BadRows(
                "unknown_task", f"{name} was never trained: train it on labelled rows first"
            )
        return Rows(table.name, found, length_B), target

    def _named(
        self, task: str | None, y: Any, mask: Any, weight: Any
    ) -> tuple[list[str], dict[str, tuple[Any, Any, Any]]]:
        ys, masks, weights = (
            {task: given} if task is not None else _by_task(what, given)
            for what, given in (("y", y), ("mask", mask), ("weight", weight))
        )
        names = list(ys)
        for name in [*masks, *weights]:
            if name not in names:
                raise BadRows("unknown_task", unknown("task of a mask or weight", name, names))
        if not names:
            raise BadRows(
                "unknown_task",
                f"rows name no task: allowed are {', '.join(self.tasks) or 'none yet; add one first'}",
            )
        for name in names:
            if name not in self.tasks:
                raise BadRows("unknown_task", unknown("task", name, self.tasks))
        return names, {name: (ys[name], masks.get(name), weights.get(name)) for name in names}

    def _inputs(self, names: Sequence[str], x: Any) -> tuple[Any, Any, InputTable]:
        """The inputs, checked against what every named task expects; they must agree on the input table."""
        first = next(
            (self.tasks[n] for n in names if self.tasks[n].table is not None), self.tasks[names[0]]
        )
        bound = self.tables[first.table] if first.table is not None else None
        found, length_B = inputs.check(first.spec, first.encoder, bound, x)
        table = bound or inputs.table_of(first.spec, first.encoder, found)
        for name in names:
            task = self.tasks[name]
            mine = task.table or inputs.table_of(task.spec, task.encoder, found).name
            shape = task.spec.input_shape
            if mine != table.name or (
                shape is not None and task.spec.modality != "text" and shape != found.shape[1:]
            ):
                raise BadRows(
                    "wrong_shape",
                    f"rows cannot serve {first.spec.name} and {name}: their inputs are {table.name} and {mine}",
                )
        if table.name not in self.tables:
            _buildable(table, self._width)
        return found, length_B, table

    def _bind(self, names: Sequence[str], table: InputTable) -> None:
        self.tables.setdefault(table.name, table)
        for name in names:
            self.tasks[name].table = table.name

    def _made(self, spec: TaskSpec, number: int) -> Task:
        encoder = self._defaults[spec.modality] if spec.encoder is None else _named_encoder(spec)
        kind = build(TASKS, spec.kind, "task kind", spec=spec)
        return Task(spec, number, kind, dict(encoder))

    def state(self) -> tuple[Json, dict[str, Any]]:
        arrays: dict[str, Any] = {}
        tasks: list[Json] = []
        for name, task in self.tasks.items():
            kind, mine = task.kind.state()
            arrays |= {f"{name}.{key}": value for key, value in mine.items()}
            tasks.append(
                {
                    "spec": task.spec.to_dict(),
                    "number": task.number,
                    "table": task.table,
                    "encoder": task.encoder,
                    "kind": kind,
                }
            )
        return {
            "tasks": tasks,
            "tables": [t.to_dict() for t in self.tables.values()],
            "next": self._next,
        }, arrays

    def load_state(self, meta: Json, arrays: Mapping[str, Any]) -> None:
        self.tables = {table["name"]: InputTable.from_dict(table) for table in meta["tables"]}
        self.tasks = {}
        self._next = int(meta["next"])
        for found in meta["tasks"]:
            task = self._made(TaskSpec.from_dict(found["spec"]), int(found["number"]))
            task.table, task.encoder = found["table"], found["encoder"]
            name = task.spec.name
            task.kind.load_state(
                found["kind"],
                {k[len(name) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{name}.")},
            )
            self.tasks[name] = task


def _by_task(what: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadRows(
            "unknown_task",
            f"rows without a task need {what} by task name: found {type(given).__name__}",
        )
    return dict(cast("Mapping[str, Any]", given))


def _named_encoder(spec: TaskSpec) -> Json:
    """A task may name only known encoders: it may come over the log, where a class path would run any code."""
    if not isinstance(spec.encoder, (str, Mapping)):
        raise EngineError(
            f"encoder of task {spec.name} is {spec.encoder!r}: allowed is a name, or a mapping with a name and arguments"
        )
    given = {"name": spec.encoder} if isinstance(spec.encoder, str) else dict(spec.encoder)
    name = given.get("name")
    allowed = [known for known, modality in MODALITY.items() if modality == spec.modality]
    if name not in allowed:
        raise EngineError(
            unknown(f"encoder of task {spec.name} ({spec.modality})", str(name), allowed)
        )
    return given


def _defaults(encoder: Spec | None) -> dict[str, Json]:
    """The encoder of every modality: one encoder for its own modality, or a mapping by modality."""
    found: dict[str, Json] = {modality: {"name": name} for modality, name in DEFAULTS.items()}
    if encoder is None:
        return found
    if isinstance(encoder, Mapping) and "name" not in encoder:
        given = dict(encoder)
    else:
        spec = {"name": encoder} if isinstance(encoder, str) else dict(encoder)
        name = str(spec["name"])
        normalised(ENCODERS, spec, "encoder")
        if name not in MODALITY:
            raise EngineError(
                f"encoder {name!r} is not ours, so say for which modality: encoder = {{image = {name!r}}}"
            )
        given = {MODALITY[name]: spec}
    for modality, spec in given.items():
        if modality not in MODALITIES:
            raise EngineError(unknown("modality of an encoder", modality, MODALITIES))
        normalised(ENCODERS, spec, "encoder")
        found[modality] = {"name": spec} if isinstance(spec, str) else dict(spec)
    return found


def _check_arguments(spec: TaskSpec, encoder: Json, width: int) -> None:
    """Arguments of our encoders are tried out when the task is added: on its rows' shape, or on the smallest they allow."""
    if encoder["name"] not in MODALITY or len(encoder) == 1:
        return
    shape = spec.input_shape or _SMALLEST[spec.modality]
    named = encoder.get("categorical")
    if spec.input_shape is None and isinstance(named, (list, tuple)):
        last = max((c for c in named if isinstance(c, int)), default=0)  # pyright: ignore[reportUnknownVariableType]
        shape = (min(max(last, 0), _MAX_COLUMNS) + 1,)
    try:
        make_encoder(InputTable("", spec.modality, shape, "float32", 1.0, encoder), width)
    except EngineError as error:
        raise EngineError(f"encoder of task {spec.name}: {error}") from error


def _buildable(table: InputTable, width: int) -> None:
    """Rows of a new shape are refused now if the encoder cannot read them, not in the middle of a step."""
    try:
        make_encoder(table, width)
    except EngineError as error:
        raise BadRows("wrong_shape", f"rows of shape {table.shape} do not fit: {error}") from error
