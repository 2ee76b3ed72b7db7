"""Published snapshots: a version number is an intent inside a durable checkpoint, and is carried out after it.

The weights that are published are copied together with that very checkpoint. After a crash in between, recovery
carries the intent out again: a directory that already holds the same bytes is adopted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon import gate, releases
from daemon.config import Gate
from daemon.durable import sync_directory
from daemon.errors import DaemonError, IntegrityError
from daemon.failpoints import reach
from daemon.measures import Measures
from mtl_engine import snapshot
from mtl_engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from daemon.config import Publish
    from daemon.cut import Process
    from daemon.machine import LogMachine
    from daemon.types import Json
    from mtl_engine.paired import Paired


@dataclass(frozen=True, slots=True)
class Published:
    """What came of an intent: the version, its directory and the gate's verdict, or the reason why there is none."""

    version: int
    path: str
    error: str = ""
    scores: Json | None = None
    verdict: Json | None = None


class Publication:
    """Writes `<models>/v000123` by rename, swaps `latest`, and `champion` if the gate says so; keeps the newest few."""

    def __init__(self, models: Path, settings: Publish, gate: Gate | None = None) -> None:
        self.models = models
        self._settings = settings
        self._gate = gate if gate is not None else Gate()
        self.measures = Measures(settings.keep)
        self._asked = ""
        self._outcomes: list[Published] = []

    @property
    def is_due(self) -> bool:
        """Whether the next checkpoint carries an intent."""
        return bool(self._asked)

    def ask(self, reason: str) -> None:
        """Publish with the next checkpoint."""
        self._asked = reason

    def latest(self) -> tuple[int, str] | None:
        """Epoch and watermark of the newest snapshot; None where there is none that can be read."""
        for release in releases.catalogue(self.models)[:1]:
            try:
                said = releases.manifest(release.path)
            except IntegrityError:
                return None  # damaged: publish another
            return said.get("epoch", 0), said.get("watermark", "")
        return None

    def after_switch(self) -> None:
        """A task switch was applied."""
        if self._settings.on_switch:
            self.ask("task switch")

    def intent(self, process: Process) -> Json | None:
        """Take the next version number, if a snapshot was asked for; it becomes durable with the cut."""
        if not self._asked:
            return None
        version = max(process.next_version, releases.newest_version(self.models) + 1)
        process.next_version = version + 1
        reason, self._asked = self._asked, ""
        return {"version": version, "reason": reason}

    def judge(self, intent: Json, machine: LogMachine, held: str) -> None:
        """Put the gate's verdict on the model as it is now into the intent, and freeze the judge rows of now with it.

        `held` is why the guard holds promotions back.
        """
        engine, measures = machine.engine, self.measures
        champions: dict[str, Paired] = {}
        bests: dict[str, Paired] = {}
        waived: list[str] = []
        try:
            self._follow(machine)
            champions, bests, waived = measures.meet(engine.judge, machine.judgement.accepted)
        except (DaemonError, EngineError) as error:
            held = f"the champion cannot be read ({error}); see `mtld snapshot verify champion`"
        candidate = gate.Candidate(
            tolerances={name: task.tolerance for name, task in engine.tasks.items()},
            is_finite=engine.weights_finite(),
            held=held,
            champion=measures.champion,
            against_champion={name: paired.to_dict() for name, paired in champions.items()},
            against_best={name: paired.to_dict() for name, paired in bests.items()},
            lacks=measures.lacks,
            accepted=waived,
        )
        intent["verdict"] = gate.judge(candidate, self._gate)
        aliases = [releases.target(self.models, alias) for alias in releases.ALIASES]
        named = [int(name.removeprefix("v")) for name in aliases if name is not None]
        version, verdict = int(intent["version"]), intent["verdict"]
        measures.add(version, engine.judge, machine.entry_id, verdict, named)

    def _follow(self, machine: LogMachine) -> None:
        """Whoever is champion now, by the gate or by hand, is who the next candidate meets."""
        name = releases.target(self.models, "champion")
        if name is None:
            self.measures.follow(None, machine.engine.judge, "", "")
            return
        path = self.models / name
        said = releases.manifest(path)
        self.measures.follow(
            int(said["version"]), machine.engine.judge, path, str(said.get("watermark") or "")
        )

    def carry_out(
        self, intent: Json | None, machine: LogMachine, header: Json
    ) -> Callable[[], None] | None:
        """What the checkpoint writer runs once the cut is durable: publish the weights as they are now."""
        if intent is None:
            return None
        live, tasks, told = machine.engine.stage_snapshot()
        tensors = {name: value.detach().cpu().clone() for name, value in live.items()}
        lineage = {key: header[key] for key in ("epoch", "watermark", "build")}
        manifest = {**told, **intent, **lineage}

        def then() -> None:
            self._outcomes.append(self._publish(tensors, tasks, manifest))

        return then

    def promote(self, args: Json) -> Json:
        """Make a snapshot champion by hand, one that the gate refused only with `force`; says what changed."""
        release = releases.find(self.models, args["name"])
        releases.check_promotable(release, force=bool(args.get("force")))
        before = releases.promote(self.models, release.path.name, by_hand=True)
        return {"champion": release.path.name, "before": before}

    def demote(self) -> Json:
        """Give the champion's place back to the one before; says what changed."""
        champion, before = releases.demote(self.models)
        return {"champion": champion, "before": before}

    def outcomes(self) -> list[Published]:
        """What became of the intents since the last call; ask while nothing is being written."""
        found, self._outcomes = self._outcomes, []
        return found

    def _publish(self, tensors: Mapping[str, Tensor], tasks: Json, manifest: Json) -> Published:
        """Carry out one intent; a failure is reported, never raised, since the checkpoint stands without it."""
        version = int(manifest["version"])
        final = self.models / releases.directory_name(version)
        try:
            self.models.mkdir(parents=True, exist_ok=True)
            tmp = self.models / f"{final.name}.tmp"
            shutil.rmtree(tmp, ignore_errors=True)
            snapshot.write(tmp, tensors, tasks, {**manifest, "at": datetime.now(UTC).isoformat()})
            reach("snapshot_written")
            if final.exists():
                if not releases.same_content(tmp, final):
                    return Published(version, "", f"{final.name} exists with other content")
                shutil.rmtree(tmp)
            else:
                tmp.rename(final)
                sync_directory(self.models)
            reach("snapshot_renamed")
            releases.point(self.models, "latest", final.name)
            reach("snapshot_aliased")
            if (manifest.get("verdict") or {}).get("decision") == "promoted":
                releases.promote(self.models, final.name)
                reach("snapshot_promoted")
            releases.retain(self.models, self._settings.keep)
        except (OSError, ValueError, EngineError) as error:
            return Published(version, "", f"{type(error).__name__}: {error}")
        return Published(version, str(final), "", manifest["scores"], manifest.get("verdict"))
