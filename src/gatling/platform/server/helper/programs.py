"""The programs that root's helper starts and ends, as an app's user or as gatling."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling import files as disk
from gatling import names
from gatling.platform.server import draining, notifying, obtaining, recovery_units, sampling, units
from gatling.platform.server.helper import machine, namespaces, running, stopping, timers
from gatling.platform.server.helper.shapes import (
    Refused,
    cursor,
    limits,
    number,
    program,
    slot,
    slots,
    text,
)

if TYPE_CHECKING:
    import socket

AFTER_PUSH = Path(__file__).resolve().parents[1] / "after_push.py"


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start what the request describes in a slot."""
    prepare(request)
    name = names.app_name(text(request, "app"))
    unit = units.instance(name, slot(request))
    machine.call(["systemctl", "reset-failed", unit], check=False)
    namespaces.start(name, machine.call)
    # not in order after gatling-recover.service: that may be who asks
    machine.call(["systemctl", "start", "--job-mode=ignore-dependencies", unit])
    return {}


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """Write what a slot runs when its unit is started."""
    name, directory = names.app_name(text(request, "app")), machine.SERVER / "instances"
    unit = units.instance(name, slot(request))
    if not (machine.UNITS / f"{unit}.d" / "app.conf").is_file():
        raise Refused(f"{unit} has not been made: it is not known whose it is")
    described = program(request, machine.SERVER / "apps" / name) | {"user": units.user(name)}
    disk.write(directory / f"{name}.{slot(request)}.json", json.dumps(described), mode=0o600)
    return {}


def stop(request: dict[str, Any]) -> dict[str, Any]:
    """End the unit of a slot: SIGTERM, and SIGKILL when the time is up.

    Without `wait` its job is only queued, and the time is that of the unit.
    """
    name = names.app_name(text(request, "app"))
    unit, seconds = units.instance(name, slot(request)), number(request, "timeout", 0, 3600)
    # first, so that no boot starts it again
    (machine.SERVER / "instances" / f"{name}.{slot(request)}.json").unlink(missing_ok=True)
    if request.get("wait") is False:
        machine.call(["systemctl", "stop", "--no-block", unit])
        return {}
    stopping.stop(unit, seconds, machine.call, unused=bool(request.get("unused")))
    machine.call(["systemctl", "reset-failed", unit], check=False)
    return {}


def end(request: dict[str, Any]) -> dict[str, Any]:
    """End every program that `run` has started as part of a deployment of an app."""
    machine.end(units.tasks(names.app_name(text(request, "app"))))
    return {}


def schedule(request: dict[str, Any]) -> dict[str, Any]:
    """Have timers for these jobs of an app, and for no others."""
    name, wanted = names.app_name(text(request, "app")), timers.jobs(request)
    if wanted and not (machine.SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    timers.write(machine.UNITS, name, wanted, machine.call)
    return {}


def run(request: dict[str, Any], files: list[int], connection: socket.socket) -> dict[str, Any]:
    """Run a program as the app's user, with the client's files as its own 0, 1 and 2."""
    name, kind = names.app_name(text(request, "app")), text(request, "kind")
    if kind not in ("build", "release", "run"):
        raise Refused("no such kind")
    directory = machine.SERVER / "apps" / name
    unit = units.task(name, kind, _identifier(request))
    properties = units.task_properties(name, directory, kind, limits(request))
    seconds = number(request, "timeout", 0, 86400 * 7)
    if seconds:
        properties.append(f"RuntimeMaxSec={max(seconds, 0.001):.3f}")
    return running.run(unit, properties, program(request, directory), files, connection,
                       terminal=request.get("terminal") is True, on_gone=running.STOP)  # fmt: skip


def push(request: dict[str, Any], files: list[int], connection: socket.socket) -> dict[str, Any]:
    """Deploy a push as gatling; a client who is gone calls it off as long as that is possible."""
    name = names.app_name(text(request, "app"))
    given = request.get("env")
    allowed = re.compile(r"GIT_(QUARANTINE_PATH|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES)"
                         r"|GATLING_ACTOR|GATLING_COLOR|GATLING_REHEARSE")  # fmt: skip
    if not isinstance(given, dict) or not all(allowed.fullmatch(str(k)) for k in given):
        raise Refused("a variable that a push does not have")
    owner = machine.account(units.OWNER)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": units.OWNER,
           "HOME": owner.pw_dir, "GATLING_JOB": "1"}  # fmt: skip
    described = {
        "argv": [str(machine.COMMAND), "receive", name],
        "cwd": str(machine.SERVER / "apps" / name / "git"),
        "env": env | {k: str(v) for k, v in given.items()},
    }
    properties = [f"User={units.OWNER}", f"Group={units.OWNER}", *units.ATTENDING,
                  *recovery_units.recover_after(AFTER_PUSH, machine.COMMAND, name)]  # fmt: skip
    unit = units.task(name, "push", _identifier(request))
    return running.run(unit, properties, described, files, connection, on_gone=running.HANG_UP)


def watch(request: dict[str, Any]) -> dict[str, Any]:
    """Watch the live release of an app, as gatling, in a unit that is not waited for."""
    name, owner = names.app_name(text(request, "app")), machine.account(units.OWNER)
    if not (machine.SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    after = recovery_units.recover_after(AFTER_PUSH, machine.COMMAND, name)
    properties = [f"--property={line}" for line in (*units.ATTENDING, *after)]
    machine.call(
        ["systemd-run", "--no-block", "--collect", "--quiet",
         f"--unit={units.task(name, 'watch', os.urandom(8).hex())}", f"--uid={units.OWNER}",
         f"--gid={units.OWNER}", "--setenv=LANG=C.UTF-8", f"--setenv=HOME={owner.pw_dir}",
         "--setenv=GATLING_JOB=1", *properties,
         "--", str(machine.COMMAND), "recover", name, "--watch"]
    )  # fmt: skip
    return {}


def certificate_obtain(request: dict[str, Any]) -> dict[str, Any]:
    """Obtain the certificates that an app lacks, as gatling, in a unit that is not waited for.

    With `after` it begins so many seconds from now, in the place of an earlier time of that kind.
    With `every` it is the unit of all apps.
    """
    if request.get("every") is True:
        machine.call(["systemctl", "start", "--no-block", obtaining.SERVICE])
        return {}
    name, after = names.app_name(text(request, "app")), number(request, "after", 0, 86400)
    if not (machine.SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    unit, when = f"{obtaining.prefix(name)}{os.urandom(8).hex()}", ["--no-block"]
    if after:
        # with a name of its own: who asks may be the service of the timer before
        later, when = obtaining.later(name), [f"--on-active={after:.0f}"]
        machine.call(["systemctl", "stop", f"{later}*.timer"], check=False)
        unit = f"{later}-{os.urandom(8).hex()}"
    limit = f"TimeoutStartSec={obtaining.APP_SECONDS}"
    properties = [f"--property={line}" for line in (limit, *obtaining.PROPERTIES)]
    machine.call(
        ["systemd-run", *when, "--collect", "--quiet", f"--unit={unit}", f"--uid={units.OWNER}",
         f"--gid={units.OWNER}", "--setenv=LANG=C.UTF-8", *properties,
         "--", str(machine.COMMAND), "certificates", "renew", name]
    )  # fmt: skip
    return {}


def notify(request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Send the notifications that wait, as gatling, in a unit that is not waited for."""
    machine.call(["systemctl", "start", "--no-block", notifying.SERVICE])
    return {}


def sample(request: dict[str, Any]) -> dict[str, Any]:
    """Begin or stop to sample the numbers of all apps, as gatling, also after a boot."""
    to = text(request, "to")
    if to not in ("on", "off"):
        raise Refused("sampling is on or off")
    machine.call(["systemctl", "enable" if to == "on" else "disable", "--now", sampling.SERVICE])
    return {}


def drain(request: dict[str, Any]) -> dict[str, Any]:
    """Begin or stop to send the log of an app to a drain, as gatling, in a unit of its own."""
    name, to = names.app_name(text(request, "app")), text(request, "to")
    unit = draining.unit(name, int(number(request, "drain", 1, 10**9)))
    if to not in ("on", "off"):
        raise Refused("a drain is on or off")
    if to == "on":
        if not (machine.SERVER / "apps" / name).is_dir():
            raise Refused("there is no such app")
        machine.call(["systemctl", "start", "--no-block", unit])
    else:
        machine.call(["systemctl", "stop", unit])
    return {}


def logs(request: dict[str, Any], files: list[int], connection: socket.socket) -> dict[str, Any]:
    """Print the journal of an app's instances, as JSON, to the client's standard output.

    The newest line comes first. A log that is followed, or read forward to its end, begins at a
    time or after an entry.
    """
    name = names.app_name(text(request, "app"))
    # with the system's own journal, which has the lines of instances of an older Gatling
    argv = ["journalctl", f"--namespace=+{units.user(name)}", "--output=json", "--quiet",
            "--no-pager", "--output-fields=MESSAGE,_SYSTEMD_UNIT,_PID"]  # fmt: skip
    since = f"--since=@{number(request, 'since', 0, 1e12):.6f}" if request.get("since") else ""
    follow = request.get("follow") is True
    if follow or request.get("forward") is True:  # also units that there will be
        # journalctl refuses both
        start = f"--after-cursor={cursor(request)}" if request.get("after") else since
        if not start:
            raise Refused("a followed log needs the place where it begins")
        argv += [start, *(["--follow", "--no-tail"] if follow else []), f"_UID={_user(name)}"]
    else:  # backwards, or systemd 252 gives the first lines after --since instead of the last
        argv += [since] if since else []
        argv += [f"--lines={int(number(request, 'lines', 0, 10_000_000))}", "--reverse"]
        # not --unit=, which adds what systemd says of a unit to what the unit says
        argv += [f"_SYSTEMD_UNIT={units.instance(name, place)}" for place in slots(request)]
    return running.attend(argv, files, connection, on_gone=running.STOP)


def _user(name: str) -> int:
    try:
        return machine.account(units.user(name)).pw_uid
    except KeyError:
        raise Refused("there is no such app") from None


def _identifier(request: dict[str, Any]) -> str:
    value = text(request, "id")
    if not re.fullmatch(r"[a-z0-9]{1,40}", value):
        raise Refused("id")
    return value
