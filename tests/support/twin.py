"""The daemon's state machine alone, in this process: the same events, no server, no checkpoint, no crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.config import load
from daemon.guard import Guard
from daemon.machine import LogMachine
from daemon.salt import salt
from daemon.types import Entry
from mtl_engine.engine import Engine
from tests.support.compare import saved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.compare import Saved
    from tests.support.daemon_process import DaemonProcess

COUNTED = ("accepted_events", "dead_events", "trained_rows", "held_out_rows", "control_events")


class Twin:
    """A machine with the settings of a daemon. Where those forbid lingering, the events decide everything."""

    def __init__(self, daemon: DaemonProcess) -> None:
        config = load(daemon.settings, {"state_dir": daemon.state})
        own = {
            "teacher_every": config.stream.teacher_every,
            "salt": salt(daemon.state, config.holdout.salt),
        }
        engine = Engine.from_config({**own, **config.engine})
        guard = Guard(config.guard.min_rows)
        self.machine = LogMachine(engine, config.stream, config.limits, guard)
        self._daemon = daemon

    def apply(self, entries: Iterable[Entry]) -> None:
        """Apply each entry once."""
        for entry in entries:
            self.machine.enter(entry)
            while self.machine.train_one():
                pass

    def assert_equals_checkpoint(self) -> Saved:
        """The daemon's newest checkpoint holds exactly what this machine holds, pending rows included."""
        found = saved(self._daemon.state)
        expected = self._expected()
        mine = {name for name in found.tensors if "ring" not in name}
        assert mine == set(expected), sorted(mine ^ set(expected))
        different = [name for name in mine if found.tensors[name].tobytes() != expected[name]]
        assert not different, f"not bit-equal: {sorted(different)}"
        assert found.meta["machine"]["pending"] == self.machine.state()[1]["pending"]
        for name in COUNTED:
            assert found.counters[name] == getattr(self.machine.counters, name), name
        assert found.header["step"] == self.machine.engine.step_count > 0
        return found

    def _expected(self) -> dict[str, bytes]:
        """The bytes of every tensor under the name that `saved` gives it."""
        engine = self.machine.engine.state_dict()
        expected = {f"state:engine/{name}": _bytes(part) for name, part in engine.tensors.items()}
        for name, segment in engine.segments.items():
            stem = f"engine/{name}".replace("/", "+")
            expected |= {f"{stem}:{key}": _bytes(part) for key, part in segment.tensors.items()}
        arrays, _ = self.machine.state()
        return expected | {f"state:machine/{name}": part.tobytes() for name, part in arrays.items()}


def entry(entry_id: str, event: Mapping[str, str | bytes]) -> Entry:
    """An event as the log returns it."""
    return Entry(
        entry_id,
        {
            name.encode(): value if isinstance(value, bytes) else value.encode()
            for name, value in event.items()
        },
    )


def _bytes(tensor: object) -> bytes:
    return tensor.numpy().tobytes()  # type: ignore[attr-defined]
