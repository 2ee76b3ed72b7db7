"""What a sidecar says of a daemon in the middle of its work: a status, a history, releases; made by rule, not recorded."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.condition import judge
from daemon.types import Vitals
from tests.support import scorecards as cards

if TYPE_CHECKING:
    from daemon.types import Json

PHASES = [
    ("digits", "0-1"), ("intents", "a"), ("digits", "2-3"), ("digits", "4-5"),
    ("tumours", "all"), ("digits", "6-7"), ("intents", "b"), ("digits", "8-9"),
]  # fmt: skip
PHASE_S = 240
POINT_S = 5
STEPS_A_PHASE = 520
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


def stamp(seconds_ago: float) -> str:
    """An RFC 3339 time stamp of a moment before now."""
    then = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def part(number: int) -> str:
    """The name of a phase's held-out rows."""
    return "/".join(PHASES[number])


def known(number: int, after: int) -> float:
    """How well phase `number` is known after phase `after`: learned at once, then slowly worn."""
    worn = 0.012 * (after - number) * (1 + math.sin(3.1 * number + 1.7 * after) / 2)
    return round(0.985 - 0.022 * number - (0.05 if number == after else 0) - worn, 4)


def matrix(rows: int = 7) -> Json:
    """The accuracy matrix after some phases."""
    found = [
        {
            "step": STEPS_A_PHASE * (after + 1),
            "task": PHASES[after][0],
            "phase": PHASES[after][1],
            "parts": {part(number): known(number, after) for number in range(after + 1)},
        }
        for after in range(rows)
    ]
    end: dict[str, float] = found[-1]["parts"] if found else {}
    best = {name: max(row["parts"].get(name, 0) for row in found) for name in end}
    older = list(end)[:-1]
    return {
        "rows": found,
        "average_accuracy": sum(end.values()) / len(end) if end else None,
        "forgetting": sum(best[name] - end[name] for name in older) / len(older) if older else None,
        "bwt": -0.021 if older else None,
        "min_acc": {
            name: min(row["parts"][name] for row in found if name in row["parts"]) for name in end
        },
    }


def status(**changes: Any) -> Json:
    """The status of a daemon that trains, with dead letters and a journal; `changes` are fields of the vitals."""
    extra = {name: changes.pop(name) for name in ("matrix", "losses") if name in changes}
    facts: Json = {
        "written_at": stamp(0.4), "pid": os.getpid(), "boot": "b0", "state": "training", "namespace": "default",
        "broker": "valkey 9.1.2 unix:///var/lib/mtld/broker/valkey.sock", "epoch": 1, "token": 3, "step": 4012,
        "rows_per_s": 1284.5, "task": "digits", "phase": "8-9", "tasks": tasks(), "watermark": "1764060000000-0",
        "lag_events": 37, "pending_rows": 12, "replay_rows": 1943, "replay_bytes": 3_251_200, "recovery_s": 2.31,
        "counters": {
            "accepted_events": 4034, "duplicate_events": 2, "dead_events": 3, "lost_events": 0, "trained_rows": 61_585,
            "held_out_rows": 3351, "duplicate_rows": 16, "dead_rows": 3, "lost_is_lower_bound": False,
        },
        "checkpoint": {"seq": 84, "step": 4008, "at": stamp(3), "stage_ms": 1.9, "write_ms": 41.0, "bytes": 812_000},
        "snapshot": {"version": 7, "at": stamp(250), "path": "/var/lib/mtld/models/v000007", "scores": scores(6)},
        "events": events(), "evaluation": evaluation(), "senders": senders(),
        "guard": {"action": "alert", "since": "1764059000000-0", "fallen": {}},
    }  # fmt: skip
    told = judge(Vitals(**{**facts, **changes}), Path("/var/lib/mtld"))
    return {**told, "busy": "", "matrix": matrix(), "losses": history()["points"][-1]["loss"], **extra}  # fmt: skip


def evaluation(**changes: Json) -> Json:
    """The newest evaluation; `changes` are fields of its tasks."""
    end, rows = matrix(), {"digits": 1620, "intents": 840, "tumours": 412}
    worst = {
        "digits": ("8", 0.871, 158),
        "intents": ("flight status", 0.805, 31),
        "tumours": ("benign", 0.898, 156),
    }
    tasks: Json = {}
    for name, found in scores(6).items():
        label, recall, known_rows = worst[name]
        score = found["accuracy"]
        tasks[name] = {
            "at": stamp(31), "step": 3990, "rows": rows[name], "metric": "accuracy", "score": score,
            "interval": [round(score - 0.011, 4), round(score + 0.009, 4)], "macro_recall": round(score - 0.006, 4),
            "worst": {"class": label, "recall": recall, "rows": known_rows}, "collapsed": "",
            "forgetting": 0.012, "min_acc": round(score - 0.04, 4), **changes.get(name, {}),
        }  # fmt: skip
    return {
        "at": stamp(31), "step": 3990, "rows": sum(rows.values()), "every_s": 300.0, "average": end["average_accuracy"],
        "forgetting": end["forgetting"], "min_acc": 0.814, "wc_acc": 0.862, "tasks": tasks, "parts": {},
    }  # fmt: skip


def senders() -> Json:
    """Who sent rows of each task lately."""
    return {
        "digits": {
            "camera-7/5b1c": {"score": 0.952, "rows": 41_200},
            "camera-8/91d0": {"score": 0.948, "rows": 39_870},
        },
        "intents": {"desk/0c44": {"score": 0.903, "rows": 12_310}},
    }


def wrong() -> Json:
    """Facts of a daemon that has learned wrong labels: a task fell, another has collapsed, entries are left out."""
    fell = {"was": 0.951, "is": 0.504, "rows": 412, "at": stamp(31), "sources": ["camera-7/5b1c"]}
    hurt = {
        "score": 0.504,
        "interval": [0.48, 0.528],
        "macro_recall": 0.491,
        "worst": {"class": "8", "recall": 0.05, "rows": 158},
    }
    gone = {"collapsed": "class benign is never answered (recall 0.00 on 156 rows)", "score": 0.62, "interval": [0.572, 0.666],
            "macro_recall": 0.5, "worst": {"class": "benign", "recall": 0.0, "rows": 156}}  # fmt: skip
    found = senders()
    found["digits"]["camera-7/5b1c"] = {"score": 0.112, "rows": 850}
    return {
        "evaluation": evaluation(digits=hurt, tumours=gone) | {"average": 0.671, "forgetting": 0.214},
        "guard": {"action": "alert", "since": "1764059000000-0", "fallen": {"digits/8-9": fell}},
        "senders": found, "skips": [["1764058000000-0", "1764059100000-3"]],
    }  # fmt: skip


def tasks() -> list[Json]:
    """Three tasks as the engine describes them."""
    rows = {"digits": 1135, "intents": 560, "tumours": 248}
    about = {"digits": ("image", 10), "intents": ("text", 24), "tumours": ("table", 2)}
    return [
        {"name": name, "modality": about[name][0], "kind": "classification", "columns": about[name][1],
         "classes": [], "replay_rows": rows[name], "null_loss": 0.69}
        for name in rows
    ]  # fmt: skip


def scores(after: int) -> Json:
    """Every task's metrics after a phase."""
    found: dict[str, list[float]] = {}
    for number in range(after + 1):
        found.setdefault(PHASES[number][0], []).append(known(number, after))
    return {name: {"accuracy": round(sum(all_) / len(all_), 4)} for name, all_ in found.items()}


def dead_letter(seconds_ago: float, subject: str, reason: str, message: str, **more: Any) -> Json:
    """One refused event, as the vitals tell it."""
    found = {
        "at": stamp(seconds_ago), "kind": "dead_letter", "id": f"17640{60000000 - int(seconds_ago * 1000)}-0",
        "event_id": f"e{int(seconds_ago)}", "source": "camera-7/5b1c", "type": "mtl.data.v1", "subject": subject,
        "hop": "0", "rows": 16, "reason": reason, "message": message,
    }  # fmt: skip
    return {**found, **more}


def events() -> list[Json]:
    """Dead letters and journal lines, oldest first."""
    lines = [
        (1790, "task_added", {"task": "tumours", "modality": "table", "kind": "classification"}),
        (732, "task_switched", {"task": "digits", "phase": "6-7", "step": 2600, "scores": _primary(4)}),
        (730, "snapshot_published", {"version": 5, "decision": "promoted", "error": ""}),
        (492, "task_switched", {"task": "intents", "phase": "b", "step": 3120, "scores": _primary(5)}),
        (490, "snapshot_published", {"version": 6, "decision": "promoted", "error": ""}),
        (252, "task_switched", {"task": "digits", "phase": "8-9", "step": 3640, "scores": _primary(6)}),
        (250, "snapshot_published", {"version": 7, "decision": "refused", "error": ""}),
    ]  # fmt: skip
    told = [{"at": stamp(ago), "kind": kind, "detail": detail} for ago, kind, detail in lines]
    dead = [
        dead_letter(1210, "digits", "shape_mismatch", "x is [16, 27, 28]; task digits takes [B, 28, 28]"),
        dead_letter(905, "faces", "unknown_task", "unknown task 'faces': allowed are digits, intents, tumours"),
        dead_letter(61, "intents", "bad_json", "Expecting ',' delimiter: line 1 column 88 (char 87)", rows=4),
    ]  # fmt: skip
    return sorted([*told, *dead], key=lambda event: event["at"])


def _primary(after: int) -> Json:
    return {name: found["accuracy"] for name, found in scores(after).items()}


CARDS = ("digits", "intents", "tumours", "price")


def scorecard(task: str) -> Json:
    """What the sidecar answers of one task of the newest snapshot: ten classes, 24, two, and none."""
    labels: dict[str, list[object]] = {
        "digits": list(range(10)),
        "intents": [f"intent number {number}" for number in range(24)],
        "tumours": ["benign", "malignant"],
        "price": [],
    }
    found = cards.card(labels[task], confusions(len(labels[task]))) if labels[task] else cards.of_number()  # fmt: skip
    probable = {"decision": "balanced", "ece_before": {"value": 0.0713, "interval": [0.06, 0.083]}}
    return {
        "version": 7, "at": stamp(250), "step": 3640, "tasks": list(CARDS), "task": task, "card": found,
        "probabilities": probable,
    }  # fmt: skip


def confusions(classes: int) -> list[list[int]]:
    """Rows by class and answer: the higher its number, the oftener a class is taken for the one before."""
    return [
        [
            150 - 6 * row if column == row else 5 * row if column == row - 1 else int((7 * row + column) % 11 == 0)
            for column in range(classes)
        ]
        for row in range(classes)
    ]  # fmt: skip


def history() -> Json:
    """Points of eight phases, one every five seconds, with an outage of a minute in the third."""
    now = datetime.now(UTC).timestamp()
    begin = now - PHASE_S * len(PHASES)
    points = [
        _point(begin, t) for t in range(0, PHASE_S * len(PHASES), POINT_S) if not 600 < t < 660
    ]
    switches = [
        {"t": begin + PHASE_S * number, "task": task, "phase": phase}
        for number, (task, phase) in enumerate(PHASES)
    ]
    marks = [
        {"t": begin + at, "kind": kind, "about": about}
        for at, kind, about in (
            (0, "started", ""), (490, "promoted", "v1"), (602, "outage", ""), (658, "back", ""), (973, "promoted", "v2"),
            (1100, "fell", "digits"), (1180, "rollback", ""), (1210, "recovered", ""), (1690, "promoted", "v6"),
        )
    ]  # fmt: skip
    return {"points": points, "switches": switches, "marks": marks}


def _point(begin: float, t: int) -> Json:
    phase, into = divmod(t, PHASE_S)
    seen = {task for task, _ in PHASES[: phase + 1]}
    noise = math.sin(t * 12.9898) * 0.5 + math.sin(t * 0.77) * 0.5
    told, ended = scores(phase - 1) if phase else {}, matrix(phase)
    active = PHASES[phase][0]
    rows = {"digits": 400 + 105 * phase, "intents": 80 * phase, "tumours": 62 * max(0, phase - 3)}
    return {
        "t": begin + t,
        "step": int(t * STEPS_A_PHASE / PHASE_S),
        "rows_per_s": round(1250 + 140 * noise, 1),
        "lag_events": max(0, int(30 + 25 * noise + (180 * math.exp(-into / 25) if phase else 0))),
        "average_accuracy": ended["average_accuracy"],
        "forgetting": ended["forgetting"],
        "loss": {
            task: round(0.08 + (1.1 * math.exp(-into / 30) if task == active else 0) + 0.03 * abs(noise), 4)
            for task in sorted(seen)
        },
        "score": {task: one["accuracy"] for task, one in told.items()},
        "replay_rows": {task: rows[task] for task in sorted(seen)},
    }  # fmt: skip


def releases() -> list[Json]:
    """Four snapshots, the newest refused by the gate."""
    fell = {
        "score": 0.842,
        "best": 0.913,
        "tolerance": 0.02,
        "rows": 412,
        "worse": 31,
        "better": 2,
        "is_within": False,
        "why": "",
    }
    within = {
        "score": 0.895,
        "best": 0.902,
        "tolerance": 0.02,
        "rows": 500,
        "is_within": True,
        "why": "",
    }
    promoted = {
        "decision": "promoted",
        "reason": "every task is within its tolerance of its best",
        "tasks": {"digits": within},
    }
    verdicts: dict[int, Json | None] = {
        7: {"decision": "refused", "reason": "intents 0.8420, best 0.9130, tolerance 0.02", "against": 6,
            "tasks": {"digits": within, "intents": fell}},
        6: {**promoted, "against": 5},
        5: {**promoted, "reason": "there was no champion", "against": None},
        4: None,
    }  # fmt: skip
    aliases = {7: ["latest"], 6: ["previous", "champion"]}
    return [
        {"version": number, "path": f"/var/lib/mtld/models/v{number:06d}", "aliases": aliases.get(number, []),
         "at": stamp(250 + PHASE_S * (7 - number)), "step": STEPS_A_PHASE * number, "scores": scores(number - 1),
         "verdict": verdict}
        for number, verdict in verdicts.items()
    ]  # fmt: skip
