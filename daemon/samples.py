"""What a metric is: its name, its labels, and how its samples are read from the vitals; label values are bounded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daemon.types import Vitals

PREFIX = "mtld_"  # of every name; the tables leave it out
MAX_TASKS = 50  # label values; a metric's labels are bounded whatever producers send
OTHER = "other"  # the tasks beyond them, together


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver describes it; what a driver does not tell is None."""

    index: int
    utilization: float | None = None  # 0 to 1
    memory_bytes: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one scrape is made of: the vitals, None where there are none, and what the host says."""

    vitals: Vitals | None
    disk_free_bytes: float | None = None
    aliases: Mapping[str, int] | None = None  # of published snapshots -> version
    gpus: Sequence[Gpu] = ()
    ece: Mapping[str, float] = field(default_factory=dict[str, float])  # of the newest snapshot


Sample = tuple[tuple[str, ...], Any]  # label values; a number, or a histogram as the vitals have it
Read = Callable[[Seen], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table."""

    name: str  # without the prefix
    kind: str  # gauge, counter or histogram
    told: str
    read: Read
    labels: tuple[str, ...] = ()
    is_durable: bool = (
        False  # counted in the checkpoint: it falls when a crash takes some work back
    )


def of(read: Callable[[Vitals], Iterable[Sample]]) -> Read:
    """A metric that needs vitals, and has no samples where there are none."""
    return lambda seen: read(seen.vitals) if seen.vitals is not None else ()


def number(read: Callable[[Vitals], Any]) -> Read:
    """One number without labels; None = no sample."""
    return of(lambda vitals: one(read(vitals)))


def one(value: Any) -> Iterator[Sample]:
    if value is not None:
        yield (), value


def named(values: Mapping[str, Any], names: Sequence[str], suffix: str = "") -> Iterator[Sample]:
    for name in names:
        yield (name,), values.get(f"{name}{suffix}", 0)


def by_task(
    read: Callable[[Vitals], Mapping[str, float | None]],
    together: Callable[[list[float]], float],
) -> Read:
    """A number a task; those of the tasks beyond `MAX_TASKS` are put `together`."""

    def samples(vitals: Vitals) -> Iterator[Sample]:
        shown = {str(task.get("name")) for task in vitals.tasks[:MAX_TASKS]}
        return bounded(read(vitals), shown, together)

    return of(samples)


def bounded(
    values: Mapping[str, float | None],
    shown: Collection[str],
    together: Callable[[list[float]], float],
) -> Iterator[Sample]:
    """A number for each task that is `shown`; those of the others are put `together`."""
    rest: list[float] = []
    for task, value in values.items():
        if value is None:
            continue
        if task in shown:
            yield (task,), value
        else:
            rest.append(value)
    if rest:
        yield (OTHER,), together(rest)
