"""The users, directories and units of apps, which root's helper makes and removes."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any

from gatling import names
from gatling.platform.server import draining, obtaining, units
from gatling.platform.server import timers as timer_units
from gatling.platform.server.helper import machine, namespaces, programs, timers, unit_files
from gatling.platform.server.helper.shapes import (
    Refused,
    limits,
    number,
    port_list,
    process_slot,
    text,
)

if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterable
    from pathlib import Path

    from gatling.platform.limits import Limits

LAYOUT = (("git", "gatling", 0o755), ("releases", "gatling", 0o755), ("logs", "gatling", 0o700),
          ("slots", "gatling", 0o700), ("build", "app", 0o750), ("work", "app", 0o770),
          ("state", "app", 0o700))  # fmt: skip
"""The directories of an app: name, whose, mode."""


def app(request: dict[str, Any]) -> dict[str, Any]:
    """Make or update an app's user, directories and units."""
    name, wanted = names.app_name(text(request, "app")), limits(request)
    stop_seconds, own_ports = number(request, "stop", 1, 3600), port_list(request)
    user = units.user(name)
    try:
        found = machine.account(user)
        if found.pw_gecos != f"Gatling app {name}":
            raise Refused(f"the user {user} exists and is not Gatling's")
    except KeyError:
        machine.call(["useradd", "--system", "--user-group", "--no-create-home", "--shell",
               "/usr/sbin/nologin", "--home-dir", str(machine.SERVER / "apps" / name / "state"),
               "--comment", f"Gatling app {name}", user])  # fmt: skip
        found = machine.account(user)
    _directories(name, found)
    _make_units(name, (1, 2), wanted, stop_seconds, own_ports)
    return {}


def slot_unit(request: dict[str, Any]) -> dict[str, Any]:
    """Make or update the unit of a process's slot; the app must be there."""
    name, place, wanted = (
        names.app_name(text(request, "app")),
        process_slot(request),
        limits(request),
    )
    if not (machine.SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    _make_units(name, (place,), wanted, number(request, "stop", 1, 3600), port_list(request))
    return {}


def discard(request: dict[str, Any]) -> dict[str, Any]:
    """End and remove the unit of a process's slot."""
    name, place = names.app_name(text(request, "app")), process_slot(request)
    programs.stop({"app": name, "slot": place, "timeout": 10})
    _remove_units(name, (place,))
    return {}


def forget(request: dict[str, Any]) -> dict[str, Any]:
    """Remove an app's programs, units, directories and user."""
    name = names.app_name(text(request, "app"))
    from gatling.platform.server.helper import certificates, pools

    pools.drop(name)
    timers.write(machine.UNITS, name, {}, machine.call)
    machine.end([f"{obtaining.prefix(name)}*"])
    machine.end([draining.units_of(name)])
    others: list[int | str] = [path.name.split(".", 1)[1].removesuffix(".service.d")
              for path in machine.UNITS.glob(f"gatling@{name}.*.*.service.d")]  # fmt: skip
    for place in (1, 2, *others):
        programs.stop({"app": name, "slot": place, "timeout": 10})
    programs.end({"app": name})
    machine.end([units.task(name, "watch", "*")])
    machine.end(timer_units.runs(name))
    _remove_units(name, (1, 2, *others))
    namespaces.remove(machine.UNITS, name, machine.call)
    gone = machine.SERVER / "apps" / f".{name}.gone"
    shutil.rmtree(gone, ignore_errors=True)  # of a helper that was killed
    with contextlib.suppress(FileNotFoundError):
        # root's directory: nobody can put a link there
        (machine.SERVER / "apps" / name).rename(gone)
    certificates.forget(name)  # now that no request can add one any more
    # follows no links (shutil.rmtree.avoids_symlink_attacks)
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(KeyError):
        user = units.user(name)
        if machine.account(user).pw_gecos == f"Gatling app {name}":
            machine.call(["userdel", user])
    return {}


def _directories(name: str, user: pwd.struct_passwd) -> None:
    """Make an app's directories; as a whole, in a directory that only root can write to."""
    directory = machine.SERVER / "apps" / name
    if directory.exists():
        return
    owner = machine.account(units.OWNER)
    making = machine.SERVER / "apps" / f".{name}.new"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    for entry, whose, mode in LAYOUT:
        (making / entry).mkdir(mode=0o700)
        (making / entry).chmod(mode)
        uid = owner.pw_uid if whose == "gatling" else user.pw_uid
        group = user.pw_gid if entry == "state" else owner.pw_gid
        os.chown(making / entry, uid, group)
    making.chmod(0o750)
    os.chown(making, owner.pw_uid, user.pw_gid)
    making.rename(directory)


def _make_units(
    name: str,
    places: tuple[int | str, ...],
    wanted: Limits,
    stop_seconds: float,
    own_ports: tuple[int, ...] | None,
) -> None:
    """Write the drop-ins of these slots, and let them be started at boot."""
    lines = units.drop_in(name, machine.SERVER / "apps" / name, wanted, stop_seconds, own_ports)
    with unit_files.writing(machine.call) as written:
        namespaces.write(machine.UNITS, name, written)
        for unit in (units.instance(name, place) for place in places):
            written.write(machine.UNITS / f"{unit}.d" / "app.conf", lines)
            written.link(_at_boot(unit), machine.UNITS / "gatling@.service")


def _remove_units(name: str, places: Iterable[int | str]) -> None:
    with unit_files.writing(machine.call) as written:
        for unit in (units.instance(name, place) for place in places):
            written.remove(_at_boot(unit), machine.UNITS / f"{unit}.d")


def _at_boot(unit: str) -> Path:
    """The link by which a boot starts a unit."""
    return machine.UNITS / "multi-user.target.wants" / unit
