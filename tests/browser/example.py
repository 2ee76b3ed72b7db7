"""What a sidecar says of a daemon in the middle of its work: a status, a history, releases; made by rule, not recorded."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.commands.status import judge
from daemon.types import Vitals

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
    extra = {name: changes.pop(name) for name in ("matrix", "losses", "scores") if name in changes}
    facts: Json = {
        "written_at": stamp(0.4), "pid": os.getpid(), "boot": "b0", "state": "training", "namespace": "default",
        "broker": "valkey 9.1.2 unix:///var/lib/mtld/broker/valkey.sock", "epoch": 1, "token": 3, "step": 4012,
        "rows_per_s": 1284.5, "task": "digits", "phase": "8-9", "tasks": tasks(), "watermark": "1764060000000-0",
        "lag_events": 37, "pending_rows": 12, "replay_rows": 2000, "replay_bytes": 3_251_200, "recovery_s": 2.31,
        "counters": {
            "accepted_events": 4034, "duplicate_events": 2, "dead_events": 3, "lost_events": 0, "trained_rows": 61_585,
            "held_out_rows": 3351, "duplicate_rows": 16, "dead_rows": 3, "lost_is_lower_bound": False,
        },
        "checkpoint": {"seq": 84, "step": 4008, "at": stamp(3), "stage_ms": 1.9, "write_ms": 41.0, "bytes": 812_000},
        "snapshot": {"version": 7, "at": stamp(250), "path": "/var/lib/mtld/models/v000007", "scores": scores(6)},
        "events": events(),
    }  # fmt: skip
    told = judge(Vitals(**{**facts, **changes}), Path("/var/lib/mtld"))
    return {**told, "busy": "", "scores": {}, "matrix": matrix(), "losses": {"digits": 0.2143, "intents": 0.0871, "tumours": 0.1302}, **extra}  # fmt: skip


def tasks() -> list[Json]:
    """Three tasks as the engine describes them."""
    rows = {"digits": 1240, "intents": 512, "tumours": 248}
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


def events() -> list[Json]:
    """Dead letters and journal lines, oldest first."""
    dead = {"kind": "dead_letter", "type": "mtl.data.v1", "hop": "0"}
    return [
        {"at": stamp(1790), "kind": "task_added", "detail": {"task": "tumours", "modality": "table", "kind": "classification"}},
        {"at": stamp(1210), **dead, "id": "1764059000412-0", "event_id": "e991", "source": "camera-7/5b1c", "subject": "digits",
         "rows": 16, "reason": "shape_mismatch", "message": "x is [16, 27, 28]; task digits takes [B, 28, 28]"},
        {"at": stamp(905), **dead, "id": "1764059300007-2", "event_id": HOSTILE, "source": "unknown", "subject": HOSTILE,
         "rows": 1, "reason": "unknown_task", "message": f"task {HOSTILE!r} is not known; known: digits, intents, tumours"},
        {"at": stamp(252), "kind": "task_switched", "detail": {"task": "digits", "phase": "8-9", "step": 3640}},
        {"at": stamp(250), "kind": "snapshot_published", "detail": {"version": 7, "error": ""}},
        {"at": stamp(61), **dead, "id": "1764060100120-0", "event_id": "m-17", "source": "notebook/77", "subject": "intents",
         "rows": 4, "reason": "bad_json", "message": "Expecting ',' delimiter: line 1 column 88 (char 87)"},
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
    return {"points": points, "switches": switches}


def _point(begin: float, t: int) -> Json:
    phase, into = divmod(t, PHASE_S)
    seen = {task for task, _ in PHASES[: phase + 1]}
    noise = math.sin(t * 12.9898) * 0.5 + math.sin(t * 0.77) * 0.5
    after = phase - 1
    told = scores(after) if phase else {}
    active = PHASES[phase][0]
    rows = {"digits": 400 + 105 * phase, "intents": 80 * phase, "tumours": 62 * max(0, phase - 3)}
    return {
        "t": begin + t,
        "step": int(t * STEPS_A_PHASE / PHASE_S),
        "rows_per_s": round(1250 + 140 * noise, 1),
        "lag_events": max(0, int(30 + 25 * noise + (180 * math.exp(-into / 25) if phase else 0))),
        "average_accuracy": _mean([one["accuracy"] for one in told.values()]),
        "forgetting": 0.004 * after + 0.002 * math.sin(after) if after > 0 else None,
        "loss": {
            task: round(0.08 + (1.1 * math.exp(-into / 30) if task == active else 0) + 0.03 * abs(noise), 4)
            for task in sorted(seen)
        },
        "score": {task: one["accuracy"] for task, one in told.items()},
        "replay_rows": {task: rows[task] for task in sorted(seen)},
    }  # fmt: skip


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def releases() -> list[Json]:
    """Four snapshots, the newest refused by the gate."""
    fell = {
        "score": 0.842,
        "best": 0.913,
        "tolerance": 0.02,
        "rows": 412,
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
