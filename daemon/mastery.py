"""The metrics of how well each task is known: scores, what fell, whose labels look wrong; from the newest evaluation alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon import standing
from daemon.samples import MAX_TASKS, OTHER, Metric, by_task, number, of
from daemon.vitals import unix_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from daemon.samples import Read, Sample
    from daemon.standing import Standing
    from daemon.types import Vitals

MAX_SOURCES = 64  # label values of a task; those beyond them are `other`


def _known(read: Callable[[Standing], Any], together: Callable[[list[float]], float]) -> Read:
    """A number of each task's standing; no sample where there is none."""
    return by_task(lambda v: {found.task: read(found) for found in standing.of(v)}, together)


def _overall(name: str) -> Read:
    return number(lambda v: v.evaluation.get(name))


def _by_source(
    read: Callable[[Vitals], Mapping[str, Mapping[str, float]]],
    together: Callable[[list[float]], float],
) -> Read:
    """A number a task and source; those of the sources beyond `MAX_SOURCES` are put `together`."""

    def samples(vitals: Vitals) -> Iterator[Sample]:
        found = read(vitals)
        for task in vitals.tasks[:MAX_TASKS]:
            name = str(task.get("name"))
            values = dict(found.get(name) or {})
            rest = [values.pop(OTHER)] if OTHER in values else []
            shown = list(values.items())
            yield from (((name, source), value) for source, value in shown[:MAX_SOURCES])
            rest += [value for _, value in shown[MAX_SOURCES:]]
            if rest:
                yield (name, OTHER), together(rest)

    return of(samples)


def _sent(key: str) -> Callable[[Vitals], Mapping[str, Mapping[str, float]]]:
    """One number of every source that has it, by task."""

    def read(vitals: Vitals) -> Mapping[str, Mapping[str, float]]:
        return {
            task: {source: one[key] for source, one in found.items() if one.get(key) is not None}
            for task, found in vitals.senders.items()
        }

    return read


def _suspects(vitals: Vitals) -> Mapping[str, Mapping[str, float]]:
    return {one.task: dict.fromkeys(one.suspects, 1.0) for one in standing.of(vitals)}


KNOWN: tuple[Metric, ...] = (
    Metric("score", "gauge", "Newest score on the task's hold-outs, by its primary metric.",
           _known(lambda one: one.score, min), ("task",)),
    Metric("score_rows", "gauge", "Held-out rows that it was scored on.", _known(lambda one: one.rows, sum), ("task",)),
    Metric("score_timestamp_seconds", "gauge", "When the task was scored.", _known(lambda one: unix_s(one.at), min),
           ("task",)),
    Metric("score_stale", "gauge", "1 while it trains and has missed three evaluations of the task in a row.",
           by_task(lambda v: {one.task: int(standing.is_stale(one, v)) for one in standing.of(v)}, max), ("task",)),
    Metric("macro_recall", "gauge", "Mean of the recalls of all classes of the task.",
           _known(lambda one: one.macro_recall, min), ("task",)),
    Metric("worst_recall", "gauge", "Recall of the class that is known worst.",
           _known(lambda one: one.worst.get("recall"), min), ("task",)),
    Metric("task_collapsed", "gauge", "1 while a class of the task is never answered.",
           _known(lambda one: int(bool(one.collapsed)), max), ("task",)),
    Metric("fallen", "gauge", "1 while the task, or a phase of it, is further below its measure than its tolerance.",
           _known(lambda one: int(bool(one.fallen)), max), ("task",)),
    Metric("forgetting", "gauge", "Best score of the task minus its newest.",
           _known(lambda one: one.forgetting, max), ("task",)),
    Metric("min_score", "gauge", "Lowest score of the task so far (min-ACC).",
           _known(lambda one: one.min_acc, min), ("task",)),
    Metric("average_score", "gauge", "Mean score of the newest evaluation.", _overall("average")),
    Metric("average_forgetting", "gauge", "Mean forgetting of the newest evaluation.", _overall("forgetting")),
    Metric("worst_case_score", "gauge", "Worst-case score of the newest evaluation (WC-ACC).", _overall("wc_acc")),
    Metric("evaluation_timestamp_seconds", "gauge", "When all tasks were scored last.",
           number(lambda v: unix_s(str(v.evaluation.get("at", ""))))),
    Metric("source_score", "gauge", "Score of the newest rows of a source, before they were trained on.",
           _by_source(_sent("score"), min), ("task", "source")),
    Metric("source_rows", "gauge", "Rows of a source that were scored so.", _by_source(_sent("rows"), sum), ("task", "source")),
    Metric("suspect_source", "gauge", "1 for a source whose labels look wrong while the task is fallen.",
           _by_source(_suspects, max), ("task", "source")),
    Metric("skip_active", "gauge", "1 while entries of the log are left out by a rollback.",
           number(lambda v: int(bool(v.skips)))),
)  # fmt: skip
