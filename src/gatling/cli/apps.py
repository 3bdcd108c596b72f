"""`gatling load`, `unload`, `apps`, `status`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from gatling.cli.common import (
    app_argument,
    as_json,
    confirm,
    confirm_option,
    opened,
    progress,
    reading,
)
from gatling.platform import ports
from gatling.text import counted
from gatling.ui.output import ago, duration, echo, print_json, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.base import Slot, Status
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


CHAIN_PATIENCE_SECONDS = 0.5
SHOWN_RELEASES = 8
"""Of those that a node went through, how many fit on a line."""


@click.command("load")
@app_argument
@click.option(
    "--dir", "directory", metavar="DIR", default="",
    help="Directory of the repository that has the project; its root otherwise.",
)  # fmt: skip
def load_command(app: str, directory: str) -> None:
    """Make the app APP, ready to be pushed to.

    \b
    Examples:
      gatling load shop
      gatling load shop --dir apps/shop
    """
    from gatling.operations import apps as loading

    with opened(create=True) as gatling:
        made = loading.load(gatling, app, {"build.directory": directory} if directory else {})
        echo(f"{app} is ready. Push to it:", "")
        echo(f"  git remote add gatling {gatling.apps.push_address(app)}")
        echo("  git push gatling main", "")
        echo(f"It will be served at {gatling.router.url(made)}")
        if gatling.router.is_public():
            _advise_domain(app)


def _advise_domain(app: str) -> None:
    """Say how other machines reach an app: APP.localhost is always the reader's own machine."""
    from gatling.platform import ports

    where = ports.public_address() or "this host's address"
    echo(
        f"Other machines reach it by a domain whose DNS record (A or AAAA) is {where}:",
        f"  gatling domains add {app} DOMAIN",
    )


@click.command("unload")
@app_argument
@confirm_option
def unload_command(app: str, given: str | None) -> None:
    """Stop APP and remove everything of it: repository, releases, config, logs.

    \b
    Example:
      gatling unload shop --confirm shop
    """
    from gatling.operations import apps as loading
    from gatling.state import apps

    with opened(app) as gatling:
        apps.get(gatling.db, app)
        confirm(
            app,
            given,
            f"This would stop {app} and remove it with its repository, releases, config and logs.",
        )
        loading.unload(gatling, app, progress())
        echo(f"{app} is gone.")


@click.command("apps")
@as_json
def apps_command(as_json: bool) -> None:
    """List the apps.

    \b
    Example:
      gatling apps
    """
    from gatling.state import apps

    with opened() as gatling:
        every = [app for app in apps.every(gatling.db) if _is_shown(app)]
        known = _statuses(gatling, every)
        described = [describe(gatling, app, known) for app in every]
    if as_json:
        print_json(described)
    elif not described:
        echo("No apps yet. `gatling load NAME` makes one.")
    else:
        columns = ("app", "state", "release", "url")
        for app in described:
            app["state"] += _often(app) + (", in maintenance" if app["maintenance"] else "")
        table(columns, [[d[c] for c in columns] for d in described])


@click.command("status")
@app_argument
@as_json
def status_command(app: str, as_json: bool) -> None:
    """Show what APP runs, and where.

    \b
    Example:
      gatling status shop
    """
    from gatling.state import apps, deployments

    with reading(app) as gatling:
        found = apps.get(gatling.db, app)
        described = describe(gatling, found, _statuses(gatling, [found]))
        last = next(iter(deployments.of_app(gatling.db, app, limit=1)), None)
        release = described["release"]
        deployed = last.started_at if last else None
        chain, unknown = _chain(gatling, found) if described["pid"] else ([], None)
        beside = _processes(gatling, found)
    described |= {
        "domains": list(found.domains),
        "ports": [found.ports[slot] for slot in sorted(found.ports)],
        "repository": gatling.apps.push_address(app),
        "last_deployment": last.id if last else None,
        "last_outcome": last.outcome if last else None,
        "chain": chain,
        "chain_unknown": unknown,
        "processes": beside,
    }
    if as_json:
        print_json(described)
        return
    shown = chain if len(chain) <= SHOWN_RELEASES else [chain[0], "…", *chain[-SHOWN_RELEASES:]]
    rows: list[tuple[str, object]] = [
        ("state", described["state"]),
        ("release", release and f"{release} ({described['version']}, {described['commit'][:9]})"),
        ("url", described["url"]),
        ("domains", ", ".join(found.domains)),
        *([("maintenance", found.maintenance or "on")] if described["maintenance"] else []),
        ("instance", described["pid"] and f"pid {described['pid']}, slot {described['slot']},"
            f" port {described['port']}, up {duration(described['uptime'])}"),
        ("restarts", _restarts(described)),
        ("node's releases", unknown or (" → ".join(shown) if len(chain) > 1 else None)),
        *[(p["process"], f"{p['state']}{_often(p)}, {p['release']}" + (f", pid {p['pid']},"
            f" up {duration(p['uptime'])}" if p["pid"] else "")) for p in beside],
        ("last deployment", last and f"{last.id}: {last.outcome}, {ago(deployed or '')}"),
        ("push to", described["repository"]),
    ]  # fmt: skip
    for label, value in rows:
        echo(f"{label:<16} {'–' if value is None else value}")


def describe(gatling: Gatling, app: App, known: dict[tuple[str, Slot], Status]) -> dict[str, Any]:
    """What an app does, as the JSON of `status` and `apps`."""
    from gatling.state import releases

    status = known.get((app.name, app.live_slot)) if app.live_slot else None
    release = None
    if app.live_release is not None:
        release = releases.get(gatling.db, app.name, app.live_release)
    return {
        "app": app.name,
        "state": _state(gatling, app, status),
        "release": release.label if release else None,
        "version": release.version if release else None,
        "commit": release.commit if release else None,
        "slot": app.live_slot,
        "port": app.ports[app.live_slot] if app.live_slot else None,
        "pid": status.pid if status else None,
        "uptime": _uptime(status),
        "url": gatling.router.url(app),
        "maintenance": app.maintenance is not None,
    } | _ends(gatling, app.name, app.live_slot)


def _uptime(status: Status | None) -> float | None:
    """In seconds, to the millisecond; None when nothing runs."""
    return round(status.uptime, 3) if status and status.process else None


def _ends(gatling: Gatling, app: str, slot: Slot | None) -> dict[str, Any]:
    """How often an instance was started again within the hour, and what it last ended with."""
    from gatling.platform import restarts

    recent = restarts.recent(gatling.instances.ends(app, slot)) if slot is not None else []
    last = recent[-1] if recent else None
    return {
        "restarts": len(recent),
        "last_end": last and {"at": last.stamp, "after": last.after, "cause": last.cause},
    }


def _often(described: dict[str, Any]) -> str:
    count = described["restarts"]
    return f" ({counted(count, 'restart')})" if count else ""


def _restarts(described: dict[str, Any]) -> str | None:
    """The same, in words."""
    last = described["last_end"]
    if last is None:
        return None
    return (f"{described['restarts']} in the last hour; last {ago(last['at'])}:"
            f" {last['cause']} after {duration(last['after'])}")  # fmt: skip


def _processes(gatling: Gatling, app: App) -> list[dict[str, Any]]:
    """What the app's further processes do."""
    from gatling.runtime import workers

    slots = gatling.instances.process_slots(app.name)
    known = workers.statuses(gatling, app.name, slots) if slots else {}
    return [
        {
            "process": slot,
            "state": str(known[slot].state) if slot in known else "down",
            "release": workers.release(gatling, app.name, slot),
            "pid": known[slot].pid if slot in known else None,
            "uptime": _uptime(known.get(slot)),
        }
        | _ends(gatling, app.name, slot)
        for slot in slots
    ]


def _is_shown(app: App) -> bool:
    """Whether the caller may see the app: over SSH some keys see only their own (ssh/access)."""
    shown = os.environ.get("GATLING_APPS", "*").split(",")
    return "*" in shown or app.name in shown


def _chain(gatling: Gatling, app: App) -> tuple[list[str], str | None]:
    """The releases that the running node went through, from its boot on; or why nobody knows."""
    from gatling.deploy import live_node
    from gatling.errors import NodeUnreachable

    try:
        return live_node.seen(gatling, app, CHAIN_PATIENCE_SECONDS), None
    except NodeUnreachable as error:
        return [], f"unknown: {error.what}"


def _statuses(gatling: Gatling, every: Sequence[App]) -> dict[tuple[str, Slot], Status]:
    live: list[tuple[str, Slot]] = [
        (a.name, a.live_slot) for a in every if a.live_slot and a.wanted == "running"
    ]
    return gatling.instances.statuses(live)


def _state(gatling: Gatling, app: App, status: Status | None) -> str:
    if app.live_release is None:
        return "empty"
    if app.wanted == "stopped":
        return "stopped"
    if status is None:
        return "down"
    # what the supervisor still watches after its start has passed its health check when it serves
    address = gatling.instances.address(app, app.live_slot or 1)
    if status.state == "starting" and ports.answers(address.port, address.host):
        return "running"
    return str(status.state)
