"""The verbs of `mtld`: a verb is one line here, `"package.module:function or Typer group"`, imported when it is typed."""

COMMANDS: dict[str, str] = {
    "init": "daemon.commands.init:init",
    "run": "daemon.commands.run:run",
    "demo": "daemon.commands.demo:demo",
    "sidecar": "daemon.commands.sidecar:sidecar",
    "status": "daemon.commands.status:status",
    "top": "daemon.commands.top:top",
    "doctor": "daemon.commands.doctor:doctor",
    "push": "daemon.commands.push:push",
    "task": "daemon.commands.task:app",
    "predict": "daemon.commands.predict:predict",
    "evaluate": "daemon.commands.evaluate:evaluate",
    "pause": "daemon.commands.pause:pause",
    "resume": "daemon.commands.resume:resume",
    "drain": "daemon.commands.drain:drain",
    "checkpoint": "daemon.commands.checkpoint:app",
    "snapshot": "daemon.commands.snapshot:app",
    "rollback": "daemon.commands.rollback:rollback",
    "dead": "daemon.commands.dead:app",
    "tail": "daemon.commands.tail:tail",
    "config": "daemon.commands.config:app",
}
