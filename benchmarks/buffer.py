"""What does a row in the replay buffer cost, in bytes and in time, at 1,000 and at 1,000,000 rows?

Each case is a process of its own with one buffer of 10 classes that is offered 32 rows and drawn 32 rows a step, rows
ready in memory. Phases: `filling` an empty buffer; `full`, where nearly every row offered replaces one; `late`, after
a stream of 20 times the capacity (in both the count of rows seen is set before every step, so that it is the same
multiple of a small and of a large buffer); `rotating`, where a class that was never seen has
appeared and its share of the memory fills. Memory is what the process took, not what was asked for.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from report import finish

from daemon.checkpointer import Checkpointer, Cut, Written
from mtl_engine.policies.balanced import Balanced
from mtl_engine.policies.reservoir import Reservoir
from mtl_engine.replay import Replay
from mtl_engine.replay_table import Outputs, ReplayTable
from mtl_engine.types import Rows, Target

B, C, POOL = 32, 10, 4096  # rows of a step, classes, rows made
TEXT_BYTES = 256
ROW_BYTES = {"image": 784, "text": TEXT_BYTES, "logits": 784 + 2 * C}
POLICIES = {"balanced": Balanced, "reservoir": Reservoir}
SHARES = {1: (1.0, 0.0), 2: (1.0, 0.0)}


class Case:
    """One buffer, and rows of a kind of column to offer."""

    def __init__(self, kind: str, rows: int, policy: str, device: str, folder: str | None) -> None:
        self.kind, self.rows = kind, rows
        self.device = torch.device(device)
        self.make = lambda: Replay(
            rows, POLICIES[policy], 0, self.device, Path(folder) if folder else None
        )
        draw = np.random.default_rng(0)
        shape = (POOL, TEXT_BYTES) if kind == "text" else (POOL, 28, 28)
        self.x = draw.integers(0, 256, shape, dtype=np.uint8)
        self.y = draw.integers(0, C, POOL).astype(np.int32)
        self.length = np.full(B, TEXT_BYTES, np.int32) if kind == "text" else None
        self.step = 0
        self.renew()

    def renew(self) -> None:
        self.replay = self.make()
        self.replay.arrange({"t": ["a", "b"]})

    @property
    def table(self) -> ReplayTable:
        return self.replay.tables["t"]

    def insert(self, label: int | None = None) -> None:
        """Rows of all classes, or all of one; the second half of the classes belong to a second task."""
        at = self.step * B % POOL
        y = self.y[at : at + B] if label is None else np.full(B, label, np.int32)
        rows = Rows("t", self.x[at : at + B], self.length, {"a": Target(y)})
        self.step += 1
        owner = 1 + (y >= C // 2).astype(np.int64)
        self.replay.offer(self.step, rows, owner, y.astype(np.int64), self._outputs)

    def _outputs(self, row_N: np.ndarray) -> dict[str, Outputs]:
        if self.kind != "logits":
            return {}
        z = torch.zeros((len(row_N), C), dtype=torch.float16, device=self.device)
        return {"a": Outputs(z, np.full(len(row_N), C, np.int32))}

    def draw(self) -> None:
        slots = self.replay.draw(self.step, B, lambda: SHARES)
        if slots:
            x, _, _ = self.table.batch(slots["t"])
            torch.as_tensor(x).to(self.device)
            if self.kind == "logits":
                z = self.table.outputs["a"].z
                z.index_select(0, torch.from_numpy(slots["t"]).to(z.device))

    def fill(self) -> None:
        while self.table.num_rows < self.table.capacity:
            self.insert()

    def timed(
        self, steps: int, label: int | None = None, seen: int = 0
    ) -> tuple[list[float], list[float]]:
        """Seconds of inserts and draws; `seen` sets how often every group was offered its quota of rows."""
        inserts, draws = [], []
        slots = self.table.slots
        for _ in range(steps):
            if seen:
                slots.seen_G = slots.quota_G * seen
            begin = perf_counter()
            self.draw()
            middle = perf_counter()
            self.insert(label)
            self.wait()
            draws.append(middle - begin)
            inserts.append(perf_counter() - middle)
        return inserts, draws

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure(case: Case, steps: int, rounds: int) -> dict[str, Any]:
    """Microseconds a row by phase; small buffers are made anew until as many steps were measured."""
    before = memory()
    case.insert()
    case.fill()
    case.draw()
    taken = {key: value - before[key] for key, value in memory().items()}
    times: dict[str, tuple[list[float], list[float]]] = {}
    events: list[float] = []
    for _ in range(rounds):
        case.renew()
        filling = min(steps, case.rows // B - 2)
        for phase, label in (("filling", None), ("full", None), ("late", None), ("rotating", C)):
            if phase == "full":
                case.fill()
            if phase == "rotating":
                begin = perf_counter()
                case.insert(C)
                events.append(perf_counter() - begin)
            share = case.rows // (2 * (C // 2 + 1)) // B - 1  # steps in which a new class fills
            count = {"filling": filling, "rotating": min(steps, max(share, 1))}.get(phase, steps)
            inserts, draws = case.timed(count, label, {"full": 1, "late": 20}.get(phase, 0))
            known = times.setdefault(phase, ([], []))
            known[0].extend(inserts)
            known[1].extend(draws)
    figures: dict[str, Any] = {
        phase: {
            "insert_us": round(mean_of_middle(inserts) / B * 1e6, 3),
            "draw_us": round(mean_of_middle(draws) / B * 1e6, 3),
        }
        for phase, (inserts, draws) in times.items()
    }
    bytes_of = {f"{key}_bytes_per_row": round(value / case.rows, 1) for key, value in taken.items()}
    return {
        **figures,
        "new_class_ms": round(median(events) * 1e3, 3),
        "asked_bytes_per_row": round(asked(case.table) / case.rows, 1),
        **bytes_of,
    }


def asked(table: ReplayTable) -> int:
    """Bytes of every array of a table, scratch included."""
    slots, strata = table.allocation.slots, table.allocation.strata
    arrays = [v for part in (slots, strata) for v in (vars(part) if part else {}).values()]
    return table.num_bytes + sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))


def mean_of_middle(values: list[float]) -> float:
    """The mean without the slowest hundredth, in which the machine did something else."""
    ordered = sorted(values)
    return float(np.mean(ordered[: max(1, len(ordered) * 99 // 100)]))


def memory() -> dict[str, int]:
    """Memory of this process: its own, that of files, and on the GPU."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if " kB" in line}
    device = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    return {"anon": found["RssAnon"], "file": found["RssFile"], "device": device}


def checkpoint(case: Case, folder: Path) -> dict[str, Any]:
    """A checkpoint of the whole buffer, then of a few hundred changed rows."""
    checkpointer = Checkpointer(folder, keep=2)
    checkpointer.recover()
    case.insert(C)  # a class that fills its share
    found: dict[str, Any] = {}
    for name, batches in (
        ("first", 0),
        ("none_changed", 0),
        ("320_rows_filling", 10),
        ("320_rows_replaced", 10),
    ):
        if name == "320_rows_replaced":
            case.table.slots.seen_G = case.table.slots.quota_G.copy()
        for _ in range(batches):
            case.insert(None if name.endswith("replaced") else C)
        begin = perf_counter()
        meta, arrays = case.replay.state()
        cut = Cut(arrays, case.replay.segments(), meta, {})
        taken = perf_counter() - begin
        checkpointer.stage(cut)
        outcome = checkpointer.wait()
        assert isinstance(outcome, Written), outcome
        found[name] = {
            "cut_ms": round(taken * 1e3, 2), "stage_ms": round(outcome.stage_s * 1e3, 2),
            "write_ms": round(outcome.write_s * 1e3, 1), "bytes": outcome.bytes_written,
        }  # fmt: skip
    return found


def one(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        case = Case(
            options.kind,
            options.rows,
            options.policy,
            options.device,
            folder if options.disk else None,
        )
        figures = measure(case, options.steps, max(1, min(50, 20_000 // options.rows)))
        if options.rows >= 100_000 and options.policy == "balanced":
            figures["checkpoint"] = checkpoint(case, Path(folder) / "cuts")
            figures["anon_mb_after_checkpoints"] = memory()["anon"] >> 20
    return {"source_bytes": ROW_BYTES[options.kind], **figures}


def ratios(small: dict[str, Any], large: dict[str, Any]) -> dict[str, float]:
    return {
        f"{phase}_{what}": round(large[phase][f"{what}_us"] / small[phase][f"{what}_us"], 2)
        for phase in ("filling", "full", "late", "rotating")
        for what in ("insert", "draw")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", default=None, help="where files of the disk-backed case lie")
    parser.add_argument("--kind", choices=ROW_BYTES, help="this case alone, as one JSON line")
    parser.add_argument("--policy", choices=POLICIES, default="balanced")
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(one(options)))
        return
    cases = [(kind, "balanced", False) for kind in ROW_BYTES]
    cases += [("image", "reservoir", False), ("image", "balanced", True)]
    figures: dict[str, Any] = {"device": options.device, "rows": options.rows}
    for kind, policy, disk in cases:
        name = "_".join(
            [kind, *([] if policy == "balanced" else [policy]), *(["disk"] if disk else [])]
        )
        found = {}
        for size, rows in (("small", 1000), ("large", options.rows)):
            words = [
                "--kind",
                kind,
                "--policy",
                policy,
                "--rows",
                str(rows),
                "--device",
                options.device,
            ]
            words += ["--steps", str(options.steps), *(["--disk"] if disk else [])]
            words += ["--folder", options.folder] if options.folder else []
            done = subprocess.run(
                [sys.executable, __file__, *words], capture_output=True, text=True, check=True
            )
            found[size] = json.loads(done.stdout)
        figures[name] = {**found, "large_over_small": ratios(found["small"], found["large"])}
    finish("buffer", figures, options.save)


if __name__ == "__main__":
    main()
