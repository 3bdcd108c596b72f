"""The faults of an embedded home, and how to fix them. Nothing is changed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import files, process
from gatling.deploy import published
from gatling.errors import GatlingError
from gatling.operations import overview
from gatling.platform import ports
from gatling.platform.postgres import health
from gatling.platform.postgres.clusters import Cluster
from gatling.project import settings
from gatling.state import apps, databases, deployments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.operations.status import AppStatus
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

PROGRAMS = ("git", "nginx", "mix", "erl")
"""The programs that an embedded home needs besides Python."""
SERVING = ("running", "starting", "stopped", "empty")
"""States of an app that need no repair."""


class Finding(Struct, frozen=True):
    """The result of a check; the hint says how to fix a fault."""

    name: str
    ok: bool
    what: str
    hint: str = ""


def programs(names: tuple[str, ...] = PROGRAMS) -> Iterator[Finding]:
    """Whether these programs are installed."""
    for name in names:
        path = shutil.which(name)
        missing = process.missing(name)
        yield Finding(name, path is not None, path or missing.what, "" if path else missing.hint)


def embedded(gatling: Gatling) -> Iterator[Finding]:
    """The programs, the disk, the proxy and the apps of an embedded home."""
    yield from programs()
    every = apps.every(gatling.db)
    if not every:
        yield Finding("home", True, f"{gatling.home.root} has no apps yet")
        return
    yield _space(gatling)
    address = gatling.router.probe_address()
    up = ports.answers(address.port, address.host)
    where = f"{address.host}:{address.port}"
    yield Finding(
        "proxy", up, f"nginx listens on {where}" if up else f"nothing listens on {where}",
        "" if up else "`gatling up` starts the proxy and the apps.",
    )  # fmt: skip
    yield from _https(gatling, every)
    yield from _http3(gatling, every)
    yield from _databases(gatling)
    for killed in deployments.running(gatling.db):
        yield Finding(
            "deployments", True, f"deployment {killed.id} of {killed.app} has no outcome yet"
        )
    for each in overview.every(gatling, every):
        yield _app(each)


def _https(gatling: Gatling, every: list[App]) -> Iterator[Finding]:
    address = gatling.router.tls_address()
    if address is None:
        return
    up = ports.answers(address.port, address.host)
    yield Finding(
        "https", up, f"nginx listens on {address}" if up else f"nothing listens on {address}",
        "" if up else "`gatling up` starts the proxy and the apps.",
    )  # fmt: skip
    for problem in {text: None for app in every for text in gatling.certificates.problems(app)}:
        yield Finding("https", False, problem)


def _http3(gatling: Gatling, every: list[App]) -> Iterator[Finding]:
    for app in every:
        what = published.without_http3(gatling, settings.parse(app.effective))
        if what:
            yield Finding("http3", True, f"{app.name}: {what}")


def _databases(gatling: Gatling) -> Iterator[Finding]:
    for record in databases.every(gatling.db):
        name = f"database {record.name}"
        if record.state != "ready":
            yield Finding(name, True, f"is not complete: {record.state}")
            continue
        found = Cluster(record.name, record.version, record.generation)
        try:
            facts = gatling.databases.facts(found)
        except GatlingError as error:
            yield Finding(name, False, error.what, error.hint)
            continue
        wrong = health.faults(record.name, record.app or record.name, facts)
        for what, hint in wrong:
            yield Finding(name, False, what, hint)
        if not wrong:
            yield Finding(name, True, f"PostgreSQL {facts.version} runs")


def _space(gatling: Gatling) -> Finding:
    try:
        files.need_space(gatling.home.root, "A deployment")
    except GatlingError as error:
        return Finding("disk", False, error.what, error.hint.replace("APP", "NAME"))
    free = shutil.disk_usage(gatling.home.root).free
    return Finding("disk", True, f"{free / 1e9:.1f} GB are free for {gatling.home.root}")


def _app(found: AppStatus) -> Finding:
    ok = found.state in SERVING
    release = f" ({found.release})" if found.release else ""
    often = f", {found.restarts} restarts in the last hour" if found.restarts else ""
    hint = f"`gatling logs {found.app} -n 50` shows why. `gatling up` starts what is down."
    return Finding(found.app, ok, f"{found.state}{release}{often}", "" if ok else hint)
