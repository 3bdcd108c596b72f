"""The apps of a backup, brought to a server that has none: all of them, or nothing. As root.

All is unpacked where root alone can come, before any of it belongs to whom it is for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

from gatling import files, names, process
from gatling.cleanup import cleaning
from gatling.errors import DiskFull, GatlingError, Interrupted, InvalidInput, PortTaken
from gatling.host import databases as moving
from gatling.host import machine
from gatling.host.archive import DIRECTORY, FAULTS, HARD, LINK, Archive, damaged
from gatling.host.backup import acting_as, app_names, explained, need, snapshot
from gatling.operations import apps as loading
from gatling.operations import keys
from gatling.paths import SERVER
from gatling.platform import ports
from gatling.platform.server import units
from gatling.platform.server.helper import client
from gatling.platform.server.helper.apps import LAYOUT
from gatling.platform.server.home import ServerHome, ServerPaths
from gatling.project import settings as project_settings
from gatling.state import apps, audit, database, issuance
from gatling.state import keys as state_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatling.state.apps import App


def restore(
    file: Path,
    server: Path = SERVER,
    ask: Callable[..., Any] = client.ask,
    start: Callable[..., None] = machine.as_owner,
    databases: moving.Host | None = None,
) -> Iterator[str]:
    """Bring the apps of a backup to this server, which has none; yield messages for the user.

    Raises a GatlingError, and then everything is as it was, unless apps only cannot be started.
    """
    need(server, "restore")
    host = databases or moving.Host(ServerHome(server / "home"))
    os.umask(0o022)
    with contextlib.ExitStack() as stack:
        directory = os.open(server / "apps", os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, directory)
        if not files.try_lock(directory):
            raise InvalidInput("Another restore is running.")
        staging = server / "apps" / ".restoring"  # root's alone, until all is in place
        _must_be_empty(server, staging, ask)
        (staging / "made").mkdir(mode=0o700, parents=True)
        staging.chmod(0o700)
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        try:
            archive = Archive(stack.enter_context(file.open("rb")))
            every = _checked(archive, staging)
            yield f"{file}: {len(every)} apps, backed up on {archive.manifest.get('host')!r}"
            _unpack(archive, staging, every)
            brought = moving.brought(
                archive.manifest["databases"], staging, snapshot(staging / "state.db"), host
            )
        except FAULTS as error:
            raise damaged(error) from None
        except OSError as error:
            raise explained(error) from error
        _put_in_place(server, staging, every, ask, brought.found, host)
    yield (
        "Apps, records and SSH keys are restored. SSH keys that this host had before were removed."
    )
    failed = None
    for used in brought.found:
        name, version = used.cluster.database, used.cluster.version
        try:
            ask("database-create", **used.named, apps=used.apps)
            yield f"The database {name} is restored, with PostgreSQL {version}."
        except GatlingError as error:
            failed = error
    for name in brought.missing:
        yield (f"The database {name} is not in this backup. `gatling db create` creates it, empty,"
               " for its app.")  # fmt: skip
    try:
        start("recover", "--units")
        if brought.found:
            start("db", "scheduled")  # plans the next backups; none is due
        if failed is not None:
            raise failed
    except GatlingError as error:
        hint = "`gatling server check`, then `systemctl restart gatling-recover.service`."
        what = f"Everything was restored but could not be started: {error.what}"
        raise type(error)(what, hint=hint, log=error.log) from error
    with contextlib.suppress(GatlingError):  # a timer does it as well
        ask("certificate-obtain", every=True)
    for app in every:
        yield f"{app.name}: {_state(app)}"


def _checked(archive: Archive, staging: Path) -> list[App]:
    """The apps of an archive which is whole, and can be brought to this host."""
    free, needed = shutil.disk_usage(staging).free, 0
    trees = set()
    for info, parts, content in archive.members():
        needed += 0 if info.type == HARD else info.size + 4096
        if needed > free:
            raise DiskFull(f"The backup needs more than the {free >> 20} MiB that are free.")
        if parts == ("state.db",) and content is not None:
            with (staging / "state.db").open("wb") as target:
                shutil.copyfileobj(content, target)
        if parts[2:3] == ("releases",) and len(parts) == 4:
            trees.add((parts[1], parts[3]))
    try:
        with contextlib.closing(database.open_database(staging / "state.db")) as db:
            kinds = {row["type"] for row in db.rows("SELECT type FROM sqlite_master")}
            if db.value("PRAGMA quick_check") != "ok" or kinds != {"table", "index"}:
                raise InvalidInput("The backup's records are damaged.")
            every = apps.every(db)
            keys.authorized_keys(state_keys.every(db), "command")
        for app in every:
            _check_app(app)
    except (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"The backup's records cannot be used: {error!r}") from None
    if [app.name for app in every] != archive.manifest["apps"]:
        raise InvalidInput("The apps in the backup's records differ from the apps in the backup.")
    for app in every:
        if app.live_release is not None and (app.name, f"v{app.live_release}") not in trees:
            raise InvalidInput(f"The backup lacks the live release of {app.name}.")
        for port in (*app.ports.values(), *app.node_ports.values()):
            if not ports.is_free(port):
                raise PortTaken(f"Port {port}, which is {app.name}'s, is taken by"
                                f" {ports.owner(port)}; nothing was changed.")  # fmt: skip
    return every


def _check_app(app: App) -> None:
    project_settings.parse(app.effective)
    taken = [*app.ports.values(), *app.node_ports.values()]
    if len(taken) != 4 or not all(1024 <= port <= 65535 for port in taken):
        raise InvalidInput(f"The backup's ports of {app.name} cannot be used.")
    if not app.domains or [names.domain(d) for d in app.domains] != list(app.domains):
        raise InvalidInput(f"The backup's domains of {app.name} cannot be used.")


def _unpack(archive: Archive, staging: Path, every: list[App]) -> None:
    for app in every:  # with hook and configuration of this Gatling's
        loading.make_repository(ServerPaths(staging / "home", app.name))
    for info, parts, content in archive.members():
        target = staging.joinpath(*parts)
        if parts[0] not in ("apps", "databases"):
            continue
        if info.type == DIRECTORY:
            target.mkdir(exist_ok=True)
            target.chmod(info.mode & 0o777)
        elif info.type == LINK:
            target.symlink_to(info.linkname)
        elif info.type == HARD:
            target.hardlink_to(staging / info.linkname)
        elif content is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
                os.fchmod(file.fileno(), info.mode & 0o777)
            os.utime(target, (info.mtime, info.mtime))


def _put_in_place(
    server: Path, staging: Path, every: list[App], ask: Callable[..., Any],
    brought: list[moving.Used], host: moving.Host,
) -> None:  # fmt: skip
    home = ServerHome(server / "home")
    owner, records, replaced = home.root.stat(), snapshot(staging / "state.db"), False
    with acting_as(owner):
        database.open_database(home.database).close()
        before = snapshot(home.database)
    made: list[str] = []
    loaded: list[moving.Used] = []
    try:
        for app in every:
            made.append(app.name)
            (staging / "made" / app.name).touch()
            ask("app", app=app.name, limits={}, stop=30.0)
            _move(staging / "apps" / app.name, server / "apps" / app.name, owner)
        for used in brought:
            with (staging / "databases" / used.cluster.database).open("rb") as file:
                loaded.append(used)
                host.load(used, file)
        os.sync()  # the records must not outlive a power cut without the files that they name
        with acting_as(owner):
            if app_names(home):
                raise GatlingError("An app was created during the restore.")
            replaced = True
            _replace(home, records)
            with contextlib.closing(database.open_database(home.database)) as db:
                issuance.forget_times(db)  # of certificates, which no backup has
                audit.record(db, "root", None, "server restore", " ".join(made))
    except BaseException as error:
        if replaced:
            with cleaning(error), acting_as(owner):
                _replace(home, before)
        for used in loaded:  # nobody has had access to them
            with cleaning(error):
                ask("database-remove", **used.named, kept="")
        for name in made:
            with cleaning(error):
                ask("forget", app=name)
        raise _undone(error) from error


def _move(source: Path, target: Path, owner: os.stat_result) -> None:
    """Bring an app's directories to those that the helper has made; in `source` is root alone."""
    modes = {name: mode for name, _, mode in LAYOUT}
    (source / "lock").touch()
    user = (target / "state").lstat()
    for entry in source.iterdir():
        whose = user if entry.name == "state" else owner
        entry.chmod(modes.get(entry.name, 0o600))
        os.lchown(entry, whose.st_uid, whose.st_gid)
        for directory, directories, plain in os.walk(entry):
            for name in (*directories, *plain):
                os.lchown(f"{directory}/{name}", whose.st_uid, whose.st_gid)
        entry.rename(target / entry.name)  # an empty directory is replaced, a link not followed


def _replace(home: ServerHome, records: bytes) -> None:
    """Put other records in place, in a transaction; and the keys that they know."""
    with contextlib.closing(sqlite3.connect(":memory:")) as source:
        source.deserialize(records)
        with contextlib.closing(sqlite3.connect(home.database, timeout=30)) as target:
            source.backup(target)
    with contextlib.closing(database.open_database(home.database)) as db:
        keys.synchronize(home, db)


def _must_be_empty(server: Path, staging: Path, ask: Callable[..., Any]) -> None:
    with acting_as((server / "home").stat()):
        found = app_names(ServerHome(server / "home"))
    if found:
        raise InvalidInput(f"This host has apps: {', '.join(found)}; nothing was changed.",
                           hint=(
                               "A backup can only be restored on a host without apps."
                           ))  # fmt: skip
    for left in (staging / "made").glob("*"):  # by a restore that was killed
        ask("forget", app=names.app_name(left.name))
    shutil.rmtree(staging, ignore_errors=True)
    for entry in (server / "apps").iterdir():
        if not entry.name.startswith("."):
            raise InvalidInput(f"No app in the records owns {entry}.",
                               hint="Move it away.")  # fmt: skip


def _state(app: App) -> str:
    if app.live_release is None or app.wanted == "stopped":
        return "not running, as before"
    unit = units.instance(app.name, app.live_slot or 1)
    with contextlib.suppress(GatlingError):
        if process.run(["systemctl", "is-active", unit], timeout=30, check=False).status == 0:
            return "started"
    return f"not started; `gatling logs {app.name}` may show why"


def _undone(error: BaseException) -> BaseException:
    kept = "The restored files were removed, and the records are unchanged."
    if isinstance(error, GatlingError):
        return type(error)(f"{error.what} {kept}", hint=error.hint, log=error.log)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"Cancelled. {kept}")
    if isinstance(error, OSError):
        found = explained(error)
        return type(found)(f"{found.what} {kept}", hint=found.hint)
    if isinstance(error, sqlite3.Error):
        return GatlingError(f"The records cannot be written: {error}. {kept}")
    return error
