"""Where the parts are put together: locks, server, engine, recovery, then the loop; and taken apart again in reverse.

The only module that knows every part. It returns the exit code of the process.
"""

from __future__ import annotations

import fcntl
import json
import threading
import uuid
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from time import monotonic
from typing import IO, TYPE_CHECKING

import structlog
import torch

import mtl_engine.engine
from daemon import early, finite, logs, notify, vitals
from daemon.broker import EmbeddedBroker
from daemon.checkpointer import Checkpointer
from daemon.control import ControlServer
from daemon.cut import Process, restore, restore_measures, versions
from daemon.errors import (
    BrokerFull,
    BrokerUnreachable,
    ConfigError,
    IntegrityError,
    Refused,
)
from daemon.failpoints import reach
from daemon.guard import Guard
from daemon.health import Health
from daemon.identity import FIRST_ID, id_tuple
from daemon.jobs import Jobs
from daemon.loop import Loop, Parts
from daemon.machine import LogMachine
from daemon.phases import Phases
from daemon.publication import Publication
from daemon.reader import Position, Reader, join
from daemon.salt import salt
from daemon.sources.redis_streams import RedisStreams
from mtl_engine.drift import Drift
from mtl_engine.errors import EngineError, StateError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from queue import SimpleQueue

    from daemon.checkpoint_store import Recovered
    from daemon.config import Config
    from daemon.types import EventSource, Json, Request

HOOK_CLOSE_S = 5.0  # how long a hook that is running may keep an exit waiting
START_WAIT_S = 60.0  # how long a start waits for its server, which may be starting too

log = structlog.get_logger("mtld")


def main(config: Config, start: str | None) -> int:
    """Run a daemon until it is drained; returns 0, or the exit code of what ended it."""
    logs.configure(config.log)
    begin = monotonic()
    with ExitStack() as stack, early.raising():
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(_locked(config.state_dir))
        health = _health(config)
        health.begin("loading")
        control = ControlServer(config.state_dir / "control.sock")
        requests = control.requests
        stack.callback(control.close)
        broker = _embedded(config)
        if broker is not None:
            stack.callback(broker.stop)
            broker.start()
        url = broker.url if broker is not None else str(config.redis_url)
        source = RedisStreams.open(
            url,
            config.namespace,
            _uuid(config.state_dir),
            ttl_s=config.lease_ttl_s,
            password_file=config.password_file,
        )
        stack.callback(source.close)
        loop = assemble(config, start, source, requests, health)
        # A writer still in torch when the interpreter ends would abort the process: SIGABRT instead of 0.
        stack.callback(loop.durability.checkpointer.wait)
        stack.callback(loop.durability.hooks.close, HOOK_CLOSE_S)
        loop.durability.promoted("start")  # once more, since it is not known who was told
        loop.ensure_broker = broker.ensure if broker is not None else None
        jobs = Jobs(requests, config.publish, config.evaluate)
        stack.callback(jobs.close)
        loop.health.recovered(monotonic() - begin)
        log.info(
            "ready", state_dir=str(config.state_dir), server=source.describe(), stream=config.namespace,
            step=loop.machine.engine.step_count, watermark=loop.reader.position.id, seconds=round(monotonic() - begin, 3),
        )  # fmt: skip
        reach("recovered")
        loop.steering.listen()
        early.check()
        loop.health.end()
        notify.ready()
        loop.run()
        return loop.steering.exit_code


def assemble(
    config: Config,
    start: str | None,
    source: EventSource,
    requests: SimpleQueue[Request],
    health: Health | None = None,
) -> Loop:
    """Recover the newest good checkpoint and build a loop that goes on from it."""
    try:
        engine = mtl_engine.engine.Engine.from_config(
            {
                "teacher_every": config.stream.teacher_every,
                **config.engine,
                "salt": salt(config.state_dir, config.holdout.salt),
            }
        )
    except EngineError as error:
        raise ConfigError(str(error)) from error
    seed = int(config.engine.get("seed", 0))
    phases = Phases(Drift(config.drift.delta, seed) if config.drift.detect else None)
    guard = Guard(config.guard.min_rows)
    machine = LogMachine(engine, config.stream, config.limits, guard, phases)
    kept = config.checkpoint
    checkpointer = Checkpointer(config.state_dir / "checkpoints", kept.keep, kept.keep_hourly)
    publication = Publication(config.state_dir / "models", config.publish, config.gate)
    found = checkpointer.recover()
    position, process = _restored(found, machine, checkpointer)
    if found is not None:
        restore_measures(found, publication.measures)
    watermark = position.id if position is not None else FIRST_ID
    process.token = _take_lease(source, process.token, 2 * config.lease_ttl_s, watermark)
    reach("lease_taken")
    skipped = 0
    if position is None:
        position, skipped = join(source, start)
    machine.rereading = id_tuple(position.id) < id_tuple(process.reread_until)
    health = health or _health(config)
    health.connected(source.describe(), _build_of(engine, config))
    loop = Loop(
        Parts(
            config,
            machine,
            source,
            Reader(source, position, process.displayed),
            checkpointer,
            publication,
            process,
            health,
            requests,
        )
    )
    if skipped:
        loop.journal("skipped_at_join", {"events": skipped})
    if found is None:
        _declare(config.tasks, loop)
    else:
        _resume(found, loop, config)
    return loop


def _restored(
    found: Recovered | None, machine: LogMachine, checkpointer: Checkpointer
) -> tuple[Position | None, Process]:
    """The machine in the state of a recovered cut; where in the log that is, None where there is no cut."""
    if found is None:
        return None, Process()
    try:
        position, process = restore(found, machine)
    except StateError as error:
        raise IntegrityError(
            f"checkpoint {found.seq} does not fit the settings: {error}; start with the settings it was made with"
        ) from error
    known = {name: version for name, version in versions(machine).items() if name in found.segments}
    checkpointer.assume(known)
    return position, process


def _resume(found: Recovered, loop: Loop, config: Config) -> None:
    """Finish what the dead process had begun after its last checkpoint, and say what differs now."""
    if found.set_aside:
        loop.process.epoch += (
            1  # what the lost checkpoints had sent may be sent again, never withheld
        )
        loop.machine.outbox.epoch = loop.process.epoch
        loop.health.fault("checkpoint_set_aside", "; ".join(found.set_aside))
        loop.journal("checkpoint_set_aside", {"found": found.set_aside, "resumed_from": found.seq})
    was = found.header["build"]
    changed = [
        f"{key} {was.get(key)} -> {now}"
        for key, now in loop.health.build.items()
        if was.get(key) != now
    ]
    if changed:
        loop.health.not_bit_exact("; ".join(changed))
        loop.journal("not_bit_exact", {"changed": changed})
    wanted, kept = config.holdout.salt, loop.machine.engine.judge.splitter.contents.salt
    if wanted is not None and wanted != kept:
        log.warning("holdout.salt is not the salt of this state, which goes on with its own")
    loop.durability.resume_from(found.header, loop)


def _take_lease(source: EventSource, token: int, wait_s: float, watermark: str) -> int:
    """The lease, waiting for a server that is not there yet; one without memory is first freed of what was applied."""
    until = monotonic() + START_WAIT_S
    pause = threading.Event()
    while True:
        try:
            return source.acquire(token, wait_s)
        except BrokerUnreachable as error:
            if monotonic() > until:
                raise
            log.warning("the server does not answer; tried again in 1 s", error=str(error))
        except BrokerFull as error:
            if source.trim(watermark) == 0:
                raise
            log.warning("the server is full; freed it of applied entries", error=str(error))
        pause.wait(1.0)


def _declare(tasks: list[Json], loop: Loop) -> None:
    """Write the tasks of the configuration into the log, each once, so that they are ordered with the data."""
    for spec in tasks:
        body = {key: value for key, value in spec.items() if key != "name"}
        data = finite.dumps(body, sort_keys=True)
        fields = {
            "specversion": "1.0", "source": "mtld", "type": "mtl.task.add.v1", "subject": str(spec["name"]),
            "id": blake2b(f"{spec['name']}{data}".encode(), digest_size=16).hexdigest(),
            "datacontenttype": "application/json", "data": data,
        }  # fmt: skip
        loop.source.append(fields)


def _build_of(engine: mtl_engine.engine.Engine, config: Config) -> Json:
    """What bit-equality depends on; recorded in every manifest."""
    settings = json.dumps(
        [
            config.engine,
            config.stream.batch_size,
            config.stream.mix,
            *([config.drift.delta] if config.drift.detect else ()),
        ],
        sort_keys=True,
    )
    return {
        "torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
        "device": str(engine.device), "settings": blake2b(settings.encode(), digest_size=8).hexdigest(),
    }  # fmt: skip


def _health(config: Config) -> Health:
    return Health(config.state_dir / vitals.NAME, config.namespace, config.redis_url or "")


def _embedded(config: Config) -> EmbeddedBroker | None:
    return EmbeddedBroker(config.state_dir / "broker") if config.redis_url is None else None


@contextmanager
def _locked(state_dir: Path) -> Generator[IO[str]]:
    """The state directory is ours as long as this process lives."""
    with (state_dir / "LOCK").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"another daemon uses {state_dir}; stop it (`mtld drain`) or choose another --state"
            ) from None
        yield lock


def _uuid(state_dir: Path) -> str:
    """The state directory's own name for itself, made once."""
    path = state_dir / "uuid"
    if not path.exists():
        tmp = path.with_suffix(".tmp")
        tmp.write_text(str(uuid.uuid4()))
        tmp.replace(path)
    return path.read_text().strip()
