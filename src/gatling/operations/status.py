"""The typed results behind `gatling apps` and `gatling status`."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class LastEnd(Struct, frozen=True):
    """An end that nobody asked for."""

    at: str
    after: float
    """Seconds since the start."""
    cause: str


class Lately(Struct, frozen=True):
    """The requests of the last minute."""

    per_second: float
    failed: int
    """Responses of status 500 and above."""
    p95_ms: int | None


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """The status of one worker's instance."""

    process: str
    """Its slot, such as `worker.1`."""
    state: str
    release: str | None
    pid: int | None
    instance: str | UnsetType = UNSET
    """The platform's name of the process, where it is no OS process of this machine."""
    uptime: float | None
    """Seconds, to the millisecond; None when nothing runs."""
    restarts: int
    """Within the last hour; on a cluster at most."""
    last_end: LastEnd | None


class AppStatus(Struct, frozen=True, kw_only=True):
    """The status of an app. Unknown values are None."""

    app: str
    state: str
    release: str | None
    version: str | None
    commit: str | None
    author: str | None
    """The author of the commit."""
    subject: str | None
    """The first line of its message."""
    slot: int | None
    port: int | None
    pid: int | None
    instance: str | UnsetType = UNSET
    """The platform's name of the process, where it is no OS process of this machine."""
    uptime: float | None
    """Seconds, to the millisecond; None when nothing runs."""
    memory: int | None
    """Bytes that the instance has in memory, with all processes below it."""
    memory_limit: str
    """The setting `limits.memory`."""
    cpu: float | None
    """Percent of one processor, on average since the start of the instance."""
    cpu_seconds: float | None
    """Processor time since the start of the instance."""
    requests: Lately | None
    """None where the proxy does not count them."""
    url: str
    also: str | None = None
    """The place that serves it as well since it was moved: `here`, or the name of a cluster."""
    maintenance: bool
    waiting: list[str]
    """Variables whose stored value waits for the next deployment."""
    restarts: int
    """Within the last hour; on a cluster at most."""
    last_end: LastEnd | None
    https_until: str | None
    """The time until which every certificate in use is valid; None without HTTPS."""
    https_error: str | None
    """Why no certificate could be obtained at the last attempt."""


class AppDetails(AppStatus, frozen=True, kw_only=True):
    """The same with what takes longer to find out."""

    domains: list[str]
    password_domains: list[str]
    """The domains that require a password; `*` stands for all domains."""
    ports: list[int]
    repository: str
    """The repository's address, in a form that git accepts."""
    last_deployment: int | None
    last_outcome: str | None
    chain: list[str]
    """The releases that the running node went through, from its boot on."""
    chain_unknown: str | None
    """Why these are not known."""
    processes: list[WorkerStatus]
