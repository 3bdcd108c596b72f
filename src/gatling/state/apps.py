"""Apps: their ports and settings, and which release is live in which slot."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from gatling.errors import InvalidInput, NotFound
from gatling.state import databases, domains, passwords, watches
from gatling.state.config import write as write_config
from gatling.times import now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping

    from gatling.state.database import Database
    from gatling.state.databases import Attachment
    from gatling.state.watches import Watch

Wanted = Literal["running", "stopped"]
SLOTS = (1, 2)

DEFAULT_PORTS = "20000-29999"
"""Below Linux' ephemeral ports (32768 …), above what people choose by hand."""


class App(Struct, frozen=True):
    """An app as recorded. `live_release` and `live_slot` are None until the first deployment."""

    name: str
    created_at: str
    wanted: Wanted
    live_release: int | None
    live_slot: int | None
    settings: dict[str, str]
    domains: tuple[str, ...]
    ports: dict[int, int]
    """HTTP port by slot."""
    node_ports: dict[int, int]
    """Port of Erlang's distribution by slot."""
    manifest: dict[str, str] = field(default_factory=dict)
    """Settings that the live release has in its gatling.toml."""
    maintenance: str | None = None
    """None: it is served. Otherwise a page is shown: one with this text, or the project's own."""
    passwords: dict[str, dict[str, str]] = field(default_factory=dict)
    """The users who may enter, with hashes of their passwords, by domain or `*` for all."""
    platform: str | None = None
    """The cluster that it runs on; None: this machine."""
    live_deployment: int | None = None
    """On a cluster the deployment whose pods are live."""

    def __repr__(self) -> str:
        # without the hashes of passwords
        return f"App({self.name!r})"

    @property
    def effective(self) -> dict[str, str]:
        """The effective settings. Values set on this host override gatling.toml."""
        return self.manifest | self.settings

    @property
    def primary_domain(self) -> str:
        """The domain that stands for the app, as in its URL and PHX_HOST.

        The first one, but what every app is given only when there is no other.
        """
        given = f"{self.name}.localhost"
        return next((d for d in self.domains if d != given), given).replace("*", "www")

    @property
    def every_port(self) -> tuple[int, ...]:
        """All that is the app's: of its two slots, for HTTP and for Erlang's distribution."""
        return (*self.ports.values(), *self.node_ports.values())

    @property
    def free_slot(self) -> int:
        """The slot in which no live instance runs."""
        return 2 if self.live_slot == 1 else 1


def create(
    db: Database, name: str, free: Callable[[int], bool], platform: str | None = None
) -> App:
    """Record a new app with four ports that no other app has and that are `free` on this machine.

    With `platform` it runs on that cluster, and the ports stay unused.

    `$GATLING_PORTS` (`FIRST-LAST`) keeps several homes on one machine apart. Raises InvalidInput
    when the name is taken or no port is left.
    """
    with db.transaction(durable=True):
        among = check_new(db, name)
        if db.row("SELECT 1 FROM apps WHERE name = ?", name):
            raise _taken(name)
        db.execute(
            "INSERT INTO apps (name, created_at, platform) VALUES (?, ?, ?)", name, now(), platform
        )
        ports = _unused_ports(db, free, among)
        for use in ("http", "node"):
            for slot in SLOTS:
                port = next(ports, None)
                if port is None:
                    raise InvalidInput(f"No port is left between {among[0]} and {among[-1]}.")
                db.execute(
                    "INSERT INTO ports (port, app, slot, use) VALUES (?, ?, ?, ?)",
                    port,
                    name,
                    slot,
                    use,
                )
        domain = f"{name}.localhost"
        owner = db.value("SELECT app FROM domains WHERE domain = ?", domain)
        if owner is not None:
            raise InvalidInput(
                f"{domain}, which would be its domain, belongs to the app {owner}.",
                hint=f"`gatling domains remove {owner} {domain}` frees it.",
            )
        domains.insert(db, name, domain, 0)
    return get(db, name)


def check_new(db: Database, name: str) -> range:
    """The ports of which a new app may get some; raises InvalidInput when the name is taken."""
    ports = _port_range(os.environ.get("GATLING_PORTS") or DEFAULT_PORTS)
    if is_whole(db, name):
        raise _taken(name)
    return ports


def _taken(name: str) -> InvalidInput:
    return InvalidInput(f"There is already an app {name}.", hint="See `gatling apps`.")


def is_whole(db: Database, name: str) -> bool:
    """Whether there is an app that was made to its end: its config is what is made last."""
    return bool(
        db.value(
            "SELECT EXISTS (SELECT 1 FROM config WHERE app = ?)"
            " OR EXISTS (SELECT 1 FROM deployments WHERE app = ?)",
            name,
            name,
        )
    )


def delete(db: Database, name: str) -> None:
    """Forget an app and everything recorded of it; the audit stays."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM apps WHERE name = ?", name)


_SELECT = (
    "SELECT apps.*, releases.manifest FROM apps"
    " LEFT JOIN releases ON releases.app = apps.name AND releases.number = apps.live_release"
)


def get(db: Database, name: str) -> App:
    """The app of that name; raises NotFound."""
    row = db.row(f"{_SELECT} WHERE apps.name = ?", name)
    if row is None:
        raise _unknown(db, name)
    ports = db.rows("SELECT * FROM ports WHERE app = ?", name)
    named = db.rows("SELECT domain FROM domains WHERE app = ? ORDER BY position, rowid", name)
    return _app(row, ports, [one["domain"] for one in named], passwords.of_app(db, name))


def _unknown(db: Database, name: str) -> NotFound:
    """An app that the home does not have. On a person's own machine, perhaps a server has it."""
    hint = f"`gatling apps` lists the apps; `gatling load {name}` creates {name}."
    if not db.place:
        return NotFound(f"There is no app {name!r}.", hint=hint)
    elsewhere = "An app on a server: `gatling --host gatling@SERVER apps`, or set GATLING_HOST."
    return NotFound(
        f"There is no app {name!r} on this machine ({db.place}).", hint=f"{hint}\n{elsewhere}"
    )


def every(db: Database, *, clusters: bool = False) -> list[App]:
    """All apps that run on this machine, by name; with `clusters` also those that run on one."""
    ports: dict[str, list[sqlite3.Row]] = {}
    for row in db.rows("SELECT * FROM ports"):
        ports.setdefault(row["app"], []).append(row)
    named: dict[str, list[str]] = {}
    for row in db.rows("SELECT app, domain FROM domains ORDER BY position, rowid"):
        named.setdefault(row["app"], []).append(row["domain"])
    users = passwords.every(db)
    return [
        _app(
            row,
            ports.get(row["name"], []),
            named.get(row["name"], []),
            users.get(row["name"], {}),
        )
        for row in db.rows(f"{_SELECT} ORDER BY apps.name")
        if clusters or row["platform"] is None
    ]


def make_live(
    db: Database,
    name: str,
    *,
    release: int | None,
    slot: int | None,
    config: Mapping[str, str] | None,
    wanted: Wanted = "running",
    watch: Watch | None = None,
    deployment: int | None = None,
    exchange: tuple[Attachment, Attachment] | None = None,
) -> None:
    """Decide: from now on this release runs, in this slot, with this config. On the disk at once.

    Config None: it stays what it is. An app that was stopped runs from now on. `watch` takes the
    place of the watch of the release before, whose time is over. On a cluster `deployment` names
    the pods that are live. `exchange` are databases that change places, because the config has the
    URL of the other one.

    Recovery brings the world into line with what stands here, so this is a deployment's point of
    no return; called with all that was recorded before, it takes that decision back.
    """
    with db.transaction(durable=True):
        db.execute(
            "UPDATE apps SET live_release = ?, live_slot = ?, wanted = ?, live_deployment = ?"
            " WHERE name = ?",
            release,
            slot,
            wanted,
            deployment,
            name,
        )
        if config is not None:
            write_config(db, name, config)
        watches.replace(db, name, watch)
        if exchange is not None:
            databases.write_exchange(db, *exchange)


def want(db: Database, name: str, wanted: Wanted) -> None:
    """Record whether the app should run."""
    with db.transaction(durable=True):
        db.execute("UPDATE apps SET wanted = ? WHERE name = ?", wanted, name)


def maintain(db: Database, name: str, message: str | None) -> None:
    """Record that an app is in maintenance, with an own text for the page if there is one; or not.

    On the disk at once: it must outlast a power cut.
    """
    with db.transaction(durable=True):
        db.execute("UPDATE apps SET maintenance = ? WHERE name = ?", message, name)


def change_settings(db: Database, name: str, change: Callable[[App], dict[str, str]]) -> App:
    """Store what `change` makes of an app's settings, by dotted key; the app as it was.

    Nobody else changes them at the same time; `change` raises for what is not valid.
    """
    with db.transaction():
        app = get(db, name)
        db.execute("UPDATE apps SET settings = ? WHERE name = ?", json.dumps(change(app)), name)
    return app


def _port_range(text: str) -> range:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) <= 65535):
        raise InvalidInput(
            f"GATLING_PORTS is not FIRST-LAST: {text!r}", hint="Such as 20000-29999."
        )
    return range(int(first), int(last) + 1)


def _unused_ports(db: Database, free: Callable[[int], bool], among: range) -> Iterator[int]:
    taken = {row["port"] for row in db.rows("SELECT port FROM ports")}
    return (p for p in among if p not in taken and free(p))


def _app(
    row: sqlite3.Row,
    ports: list[sqlite3.Row],
    named: list[str],
    users: dict[str, dict[str, str]],
) -> App:
    return App(
        name=row["name"],
        created_at=row["created_at"],
        wanted=row["wanted"],
        live_release=row["live_release"],
        live_slot=row["live_slot"],
        settings=json.loads(row["settings"]),
        domains=tuple(named),
        ports={p["slot"]: p["port"] for p in ports if p["use"] == "http"},
        node_ports={p["slot"]: p["port"] for p in ports if p["use"] == "node"},
        manifest=json.loads(row["manifest"] or "{}"),
        maintenance=row["maintenance"],
        passwords=users,
        platform=row["platform"],
        live_deployment=row["live_deployment"],
    )
