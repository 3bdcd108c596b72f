"""`gatling load`, `unload`, `apps`, `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import (
    app_argument,
    as_json,
    confirm,
    confirm_option,
    created,
    opened,
    progress,
    reading,
)
from gatling.cli.visitor import is_shown
from gatling.project import proxy
from gatling.text import counted
from gatling.times import now
from gatling.ui.output import ago, duration, echo, fields, print_json, size, table

if TYPE_CHECKING:
    from gatling.operations.status import AppDetails, AppStatus, WorkerStatus


SHOWN_RELEASES = 8
"""Of those that a node went through, how many fit on a line."""


@click.command("load")
@app_argument
@click.option(
    "--dir", "directory", metavar="DIR", default="",
    help="The project's directory in the repository. Default: its root.",
)  # fmt: skip
@click.option(
    "--platform", default=None, metavar="NAME",
    help="The cluster that the app will run on (`gatling platform add`). Default: this machine.",
)  # fmt: skip
def load_command(app: str, directory: str, platform: str | None) -> None:
    """Create the app APP, so that you can push to it.

    \b
    Examples:
      gatling load shop
      gatling load shop --dir apps/shop
      gatling load shop --platform prod
    """
    from gatling.operations import apps as loading

    own = {"build.directory": directory} if directory else {}
    with created(lambda gatling: loading.check(gatling, app, own, platform)) as gatling:
        made = loading.load(gatling, app, own, platform)
        echo(f"{app} is ready. Push to it:", "")
        echo(f"  git remote add gatling {gatling.apps.push_address(app)}")
        echo("  git push gatling main", "")
        if platform is not None:
            echo(f"It will run on the cluster {platform}.")
            return
        echo(f"It will be served at {gatling.router.url(made)}")
        if gatling.router.is_public():
            _advise_domain(app, gatling.router.public_address())


def _advise_domain(app: str, address: str | None) -> None:
    """Say how other machines reach an app: APP.localhost is always the reader's own machine."""
    where = address or "this host's address"
    echo(
        f"To reach it from other machines, add a domain whose DNS record (A or AAAA) is {where}:",
        f"  gatling domains add {app} DOMAIN",
    )


@click.command("unload")
@app_argument
@confirm_option
@click.option(
    "--leave-objects", is_flag=True,
    help="Leave the objects of APP on its cluster, for a cluster that cannot be reached.",
)  # fmt: skip
def unload_command(app: str, given: str | None, leave_objects: bool) -> None:
    """Stop APP and delete its repository, releases, config and logs.

    Its databases stay. `gatling db destroy` removes them.

    \b
    Example:
      gatling unload shop --confirm shop
    """
    from gatling.operations import apps as loading
    from gatling.operations import databases
    from gatling.state import apps

    with opened(app, clusters=True) as gatling:
        apps.get(gatling.db, app)
        names = databases.of_app(gatling, app)
        stays = f" The database {', '.join(names)} stays." if names else ""
        confirm(
            app,
            given,
            f"Stop {app} and delete its repository, releases, config and logs?{stays}",
        )
        kept = loading.unload(gatling, app, progress(), leave_objects=leave_objects)
        echo(f"{app} was removed.")
        for name in kept:
            echo(f"Its database {name} stays. Nobody can connect to it until an app is attached.")


@click.command("apps")
@as_json
def apps_command(as_json: bool) -> None:
    """List the apps.

    \b
    Example:
      gatling apps
    """
    from gatling.operations import overview
    from gatling.state import apps

    with opened() as gatling:
        shown = [app for app in apps.every(gatling.db, clusters=True) if is_shown(app.name)]
        found = overview.every(gatling, shown)
    if as_json:
        print_json(found)
    elif not found:
        echo("No apps yet. `gatling load NAME` creates one.")
    else:
        header = ("app", "state", "release", "memory", "cpu", "req/s", "p95", "waiting", "commit",
                  "by", "url")  # fmt: skip
        rows = [
            (
                each.app, _state(each), each.release, _memory(each), _cpu(each),
                _rate(each), _p95(each),
                f"config {', '.join(each.waiting)}" if each.waiting else "", each.subject,
                each.author, each.url,
            )
            for each in found
        ]  # fmt: skip
        drop = ("by", "cpu", "commit", "waiting", "p95", "req/s", "memory", "url")
        table(header, rows, cut=("state", "waiting", "commit", "by"), drop=drop)


@click.command("status")
@app_argument
@as_json
def status_command(app: str, as_json: bool) -> None:
    """Show the state of APP: release, instance, domains, workers.

    \b
    Example:
      gatling status shop
    """
    from gatling.operations import overview
    from gatling.state import apps, deployments

    with reading(app, clusters=True) as gatling:
        found = overview.details(gatling, app)
        text = apps.get(gatling.db, app).maintenance
        last = next(iter(deployments.of_app(gatling.db, app, limit=1)), None)
    if as_json:
        print_json(found)
        return
    chain = found.chain
    shown = chain if len(chain) <= SHOWN_RELEASES else [chain[0], "…", *chain[-SHOWN_RELEASES:]]
    through = " → ".join(shown) if len(chain) > 1 else None
    fields(
        [
            ("state", f"{found.state}{_often(found)}"),
            ("release", _release(found)),
            ("url", found.url),
            ("domains", ", ".join(found.domains)),
            *([("passwords", _passwords(found))] if found.password_domains else []),
            *([("maintenance", text or "on")] if found.maintenance else []),
            ("instance", (process := _process(found)) and f"{process}, slot {found.slot},"
                f" port {found.port}, up {duration(found.uptime or 0)}" if found.slot else
                found.instance or None),
            *([("also served by", _also(found))] if found.also else []),
            ("uses", _uses(found)),
            ("requests", _requests(found)),
            ("restarts", _restarts(found)),
            *([("waiting", _waiting(found))] if found.waiting else []),
            ("node's releases", found.chain_unknown or through),
            *[(each.process, _worker(each)) for each in found.processes],
            ("last deployment", last and f"{last.id}: {last.outcome}, {ago(last.started_at)}"),
            *([("https", _https(found))] if found.https_until or found.https_error else []),
            ("push to", found.repository),
        ]
    )  # fmt: skip


def _also(found: AppDetails) -> str:
    place = "this machine" if found.also == "here" else found.also
    return f"{place}, until `gatling move {found.app} --finish`"


def _passwords(found: AppDetails) -> str:
    """The domains that ask for a password, in words."""
    if proxy.EVERYWHERE in found.password_domains:
        return "required for all domains"
    return f"required for {', '.join(found.password_domains)}"


def _often(found: AppStatus | WorkerStatus) -> str:
    return f" ({counted(found.restarts, 'restart')})" if found.restarts else ""


def _state(found: AppStatus) -> str:
    """The state, with how often the app was started again, and why the last time."""
    parts = [counted(found.restarts, "restart")] if found.restarts else []
    if found.last_end is not None:
        parts.append(found.last_end.cause)
    said = f" ({': '.join(parts)})" if parts else ""
    flags = ", in maintenance" if found.maintenance else ""
    if found.https_until and found.https_until < now():
        flags += ", certificate expired"
    elif found.https_error:
        flags += ", no new certificate"
    return f"{found.state}{said}{flags}"


def _release(found: AppStatus) -> str | None:
    if not found.release:
        return None
    subject = f' "{found.subject}"' if found.subject else ""
    author = f" by {found.author}" if found.author else ""
    return f"{found.release} ({found.version}, {(found.commit or '')[:9]}{subject}{author})"


def _memory(found: AppStatus) -> str | None:
    return size(found.memory) if found.memory is not None else None


def _cpu(found: AppStatus) -> str | None:
    return f"{found.cpu:.0f}%" if found.cpu is not None else None


def _rate(found: AppStatus) -> str | None:
    return f"{found.requests.per_second:.3g}" if found.requests else None


def _p95(found: AppStatus) -> str | None:
    took = found.requests.p95_ms if found.requests else None
    return f"{took} ms" if took is not None else None


def _requests(found: AppStatus) -> str | None:
    """The requests of the last minute, in words."""
    seen = found.requests
    if seen is None:
        return None
    if not seen.per_second:
        return "none in the last minute"
    rate = f"{seen.per_second:.3g} per second, p95 {seen.p95_ms} ms"
    return f"{rate}, {seen.failed} failed (last minute)"


def _uses(found: AppStatus) -> str | None:
    """Memory and processor time, in words."""
    if found.memory is None:
        return None
    limit = f" of {found.memory_limit}" if found.memory_limit else ""
    cpu = f", {found.cpu:.0f}% CPU since the start" if found.cpu is not None else ""
    return f"{size(found.memory)}{limit} memory{cpu}"


def _waiting(found: AppStatus) -> str:
    return f"config {', '.join(found.waiting)} (stored, applied by the next deployment)"


def _restarts(found: AppStatus) -> str | None:
    """How often it was started again, and why the last time, in words."""
    last = found.last_end
    if last is None:
        return None
    return (f"{found.restarts} in the last hour; last {ago(last.at)}:"
            f" {last.cause} after {duration(last.after)}")  # fmt: skip


def _https(found: AppStatus) -> str:
    """Until when the certificates are valid, and why there is no new one."""
    parts, until = [], found.https_until
    if until:
        parts.append(f"certificate {'expired on' if until < now() else 'until'} {until[:10]}")
    if found.https_error:
        parts.append(f"no new certificate: {found.https_error.rstrip('.')}"
                     f" (`gatling certificates show {found.app}`)")  # fmt: skip
    return ", ".join(parts)


def _worker(found: WorkerStatus) -> str:
    process = _process(found)
    running = f", {process}, up {duration(found.uptime or 0)}" if process else ""
    return f"{found.state}{_often(found)}, {found.release}{running}"


def _process(found: AppStatus | WorkerStatus) -> str | None:
    """Return the process as the platform names it; None when nothing runs."""
    return f"pid {found.pid}" if found.pid else found.instance or None
