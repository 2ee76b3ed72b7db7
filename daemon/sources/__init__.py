"""Where entries come from: one file per kind of log, all under the EventSource contract of daemon/types.py."""

from __future__ import annotations

SOURCES: dict[str, str] = {
    "memory": "daemon.sources.memory:MemorySource",
    "redis": "daemon.sources.redis_streams:RedisStreams",
}
