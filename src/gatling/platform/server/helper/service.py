"""The only part of Gatling that runs as root while a server is in use.

systemd starts it for each connection to gatling-helper.socket, which the user gatling alone may
open. A request is one of the verbs below with arguments of known shapes, validated here whatever
the client did: app names, slots, numbers, patterns. Nothing of a request becomes part of a shell
command or of a path other than by a validated app name; root never writes into a directory that
another user can write to. Programs are run as an app's user or as gatling, never as root.

    app          make an app's user, directories and units, or bring them up to date
    slot         make the unit of a process's slot, or bring it up to date
    discard      remove it again
    forget       remove all of that again
    start        write what a slot runs, start its unit
    prepare      write what it runs from its next start on
    stop         end it
    run          run a program once, as the app's user, in a sandbox (build, release, run)
    end          end all such programs of an app that are part of a deployment
    schedule     have timers for an app's jobs
    watch        watch a release after its deployment, as gatling, in a unit of its own
    push         deploy a push that is under way, as gatling, in a unit of its own
    ports        keep the ports of apps to those who may use them
    proxy        write nginx' configuration of all apps, test it, take it into use
    proxy-check  test nginx' configuration
    proxy-rotate rotate nginx' log of requests, if it is large
    certificate-add     keep a certificate and its key for an app
    certificate-request make a key for an app's domains, and the request for a CA
    certificate-install keep the certificate that a CA issued for that key
    certificate-obtain  obtain what an app lacks, as gatling, in a unit of its own
    certificate-copy    keep a certificate of one app for another one as well
    certificate         take it out of use, or remove it
    toolchain-install   keep an Elixir and OTP, got by a program that owns nothing, in a sandbox
    toolchain-remove    remove it again
    database-install    install PostgreSQL from the distribution
    database-create     create a PostgreSQL cluster with one database, for an app
    database-access     let other apps use it, or fewer
    database-facts      its state, as its statistics show it
    database-keep       write a last copy of it, compared with it
    database-remove     remove a cluster of which there is such a copy
    drain               send the log of an app to a drain, as gatling, in a unit of its own, or stop
    notify              send the notifications that wait, as gatling, in a unit of its own
    logs         what the instances of an app have printed

The journal has a line for each request: verb, app, who asked, the outcome, how long it took. `logs`
is answered on a socket of its own. Only the standard library and the package's own pure renderers
are loaded, and the library `cryptography` to read a certificate that is added.
"""

import contextlib
import gc
import json
import os
import pwd
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# last, so that no package that is installed beside Gatling takes the place of a standard module
sys.path.append(str(Path(__file__).resolve().parents[4]))

from gatling import files, names
from gatling.errors import GatlingError, InvalidInput
from gatling.platform.limits import Limits
from gatling.platform.server import draining, notifying, obtaining, units
from gatling.platform.server import timers as timer_units
from gatling.platform.server.helper import (
    firewall,
    journal,
    namespaces,
    running,
    stopping,
    timers,
    unit_files,
)
from gatling.platform.server.helper.shapes import (
    Refused,
    UnknownVerb,
    cursor,
    limits,
    number,
    owned_ports,
    port_list,
    process_slot,
    program,
    slot,
    slots,
    text,
)

SERVER = Path("/var/lib/gatling")
UNITS = Path("/etc/systemd/system")
COMMAND = Path("/usr/local/bin/gatling")
AFTER_PUSH = Path(__file__).resolve().parents[1] / "after_push.py"
MAX_REQUEST = 4 << 20
"""Bytes of a request: environments are part of it."""
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
        found = pwd.getpwnam(user)
        if found.pw_gecos != f"Gatling app {name}":
            raise Refused(f"the user {user} exists and is not Gatling's")
    except KeyError:
        _call(["useradd", "--system", "--user-group", "--no-create-home", "--shell",
               "/usr/sbin/nologin", "--home-dir", str(SERVER / "apps" / name / "state"),
               "--comment", f"Gatling app {name}", user])  # fmt: skip
        found = pwd.getpwnam(user)
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
    if not (SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    _make_units(name, (place,), wanted, number(request, "stop", 1, 3600), port_list(request))
    return {}


def discard(request: dict[str, Any]) -> dict[str, Any]:
    """End and remove the unit of a process's slot."""
    name, place = names.app_name(text(request, "app")), process_slot(request)
    stop({"app": name, "slot": place, "timeout": 10})
    _remove_units(name, (place,))
    return {}


def forget(request: dict[str, Any]) -> dict[str, Any]:
    """Remove an app's programs, units, directories and user."""
    name = names.app_name(text(request, "app"))
    from gatling.platform.server.helper import certificates

    timers.write(UNITS, name, {}, _call)
    _end([f"{obtaining.prefix(name)}*"])
    _end([draining.units_of(name)])
    others: list[int | str] = [path.name.split(".", 1)[1].removesuffix(".service.d")
              for path in UNITS.glob(f"gatling@{name}.*.*.service.d")]  # fmt: skip
    for place in (1, 2, *others):
        stop({"app": name, "slot": place, "timeout": 10})
    end({"app": name})
    _end([units.task(name, "watch", "*")])
    _end(timer_units.runs(name))
    _remove_units(name, (1, 2, *others))
    namespaces.remove(UNITS, name, _call)
    gone = SERVER / "apps" / f".{name}.gone"
    shutil.rmtree(gone, ignore_errors=True)  # of a helper that was killed
    with contextlib.suppress(FileNotFoundError):
        (SERVER / "apps" / name).rename(gone)  # root's directory: nobody can put a link there
    certificates.forget(name)  # now that no request can add one any more
    # follows no links (shutil.rmtree.avoids_symlink_attacks)
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(KeyError):
        user = units.user(name)
        if pwd.getpwnam(user).pw_gecos == f"Gatling app {name}":
            _call(["userdel", user])
    return {}


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start what the request describes in a slot."""
    prepare(request)
    name = names.app_name(text(request, "app"))
    unit = units.instance(name, slot(request))
    _call(["systemctl", "reset-failed", unit], check=False)
    namespaces.start(name, _call)
    # not in order after gatling-recover.service: that may be who asks
    _call(["systemctl", "start", "--job-mode=ignore-dependencies", unit])
    return {}


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """Write what a slot runs when its unit is started."""
    name, directory = names.app_name(text(request, "app")), SERVER / "instances"
    unit = units.instance(name, slot(request))
    if not (UNITS / f"{unit}.d" / "app.conf").is_file():
        raise Refused(f"{unit} has not been made: it is not known whose it is")
    described = program(request, SERVER / "apps" / name) | {"user": units.user(name)}
    files.write(directory / f"{name}.{slot(request)}.json", json.dumps(described), mode=0o600)
    return {}


def stop(request: dict[str, Any]) -> dict[str, Any]:
    """End the unit of a slot: SIGTERM, and SIGKILL when the time is up."""
    name = names.app_name(text(request, "app"))
    unit, seconds = units.instance(name, slot(request)), number(request, "timeout", 0, 3600)
    # first, so that no boot starts it again
    (SERVER / "instances" / f"{name}.{slot(request)}.json").unlink(missing_ok=True)
    stopping.stop(unit, seconds, _call, unused=bool(request.get("unused")))
    _call(["systemctl", "reset-failed", unit], check=False)
    return {}


def end(request: dict[str, Any]) -> dict[str, Any]:
    """End every program that `run` has started as part of a deployment of an app."""
    _end(units.tasks(names.app_name(text(request, "app"))))
    return {}


def schedule(request: dict[str, Any]) -> dict[str, Any]:
    """Have timers for these jobs of an app, and for no others."""
    name, wanted = names.app_name(text(request, "app")), timers.jobs(request)
    if wanted and not (SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    timers.write(UNITS, name, wanted, _call)
    return {}


def run(request: dict[str, Any], files: list[int], connection: socket.socket) -> dict[str, Any]:
    """Run a program as the app's user, with the client's files as its own 0, 1 and 2."""
    name, kind = names.app_name(text(request, "app")), text(request, "kind")
    if kind not in ("build", "release", "run"):
        raise Refused("no such kind")
    directory = SERVER / "apps" / name
    unit = units.task(name, kind, _identifier(request))
    properties = units.task_properties(name, directory, kind, limits(request))
    if request.get("nice"):
        properties.append(f"Nice={int(number(request, 'nice', 0, 19))}")
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
                         r"|GATLING_ACTOR|GATLING_COLOR")  # fmt: skip
    if not isinstance(given, dict) or not all(allowed.fullmatch(str(k)) for k in given):
        raise Refused("a variable that a push does not have")
    owner = pwd.getpwnam(units.OWNER)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": units.OWNER,
           "HOME": owner.pw_dir, "GATLING_JOB": "1"}  # fmt: skip
    described = {
        "argv": [str(COMMAND), "receive", name],
        "cwd": str(SERVER / "apps" / name / "git"),
        "env": env | {k: str(v) for k, v in given.items()},
    }
    properties = [f"User={units.OWNER}", f"Group={units.OWNER}", *units.ATTENDING,
                  *units.recover_after(AFTER_PUSH, COMMAND, name)]  # fmt: skip
    unit = units.task(name, "push", _identifier(request))
    return running.run(unit, properties, described, files, connection, on_gone=running.HANG_UP)


def watch(request: dict[str, Any]) -> dict[str, Any]:
    """Watch the live release of an app, as gatling, in a unit that is not waited for."""
    name, owner = names.app_name(text(request, "app")), pwd.getpwnam(units.OWNER)
    if not (SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    properties = [f"--property={line}" for line in
                  (*units.ATTENDING, *units.recover_after(AFTER_PUSH, COMMAND, name))]  # fmt: skip
    _call(["systemd-run", "--no-block", "--collect", "--quiet",
           f"--unit={units.task(name, 'watch', os.urandom(8).hex())}", f"--uid={units.OWNER}",
           f"--gid={units.OWNER}", "--setenv=LANG=C.UTF-8", f"--setenv=HOME={owner.pw_dir}",
           "--setenv=GATLING_JOB=1", *properties,
           "--", str(COMMAND), "recover", name, "--watch"])  # fmt: skip
    return {}


def certificate_obtain(request: dict[str, Any]) -> dict[str, Any]:
    """Obtain the certificates that an app lacks, as gatling, in a unit that is not waited for.

    With `after` it begins so many seconds from now, in the place of an earlier time of that kind.
    With `every` it is the unit of all apps.
    """
    if request.get("every") is True:
        _call(["systemctl", "start", "--no-block", obtaining.SERVICE])
        return {}
    name, after = names.app_name(text(request, "app")), number(request, "after", 0, 86400)
    if not (SERVER / "apps" / name).is_dir():
        raise Refused("there is no such app")
    unit, when = f"{obtaining.prefix(name)}{os.urandom(8).hex()}", ["--no-block"]
    if after:
        # with a name of its own: who asks may be the service of the timer before
        later, when = obtaining.later(name), [f"--on-active={after:.0f}"]
        _call(["systemctl", "stop", f"{later}*.timer"], check=False)
        unit = f"{later}-{os.urandom(8).hex()}"
    limit = f"TimeoutStartSec={obtaining.APP_SECONDS}"
    properties = [f"--property={line}" for line in (limit, *obtaining.PROPERTIES)]
    _call(["systemd-run", *when, "--collect", "--quiet", f"--unit={unit}", f"--uid={units.OWNER}",
           f"--gid={units.OWNER}", "--setenv=LANG=C.UTF-8", *properties,
           "--", str(COMMAND), "certificates", "renew", name])  # fmt: skip
    return {}


def notify(request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Send the notifications that wait, as gatling, in a unit that is not waited for."""
    _call(["systemctl", "start", "--no-block", notifying.SERVICE])
    return {}


def drain(request: dict[str, Any]) -> dict[str, Any]:
    """Begin or stop to send the log of an app to a drain, as gatling, in a unit of its own."""
    name, to = names.app_name(text(request, "app")), text(request, "to")
    unit = draining.unit(name, int(number(request, "drain", 1, 10**9)))
    if to not in ("on", "off"):
        raise Refused("a drain is on or off")
    if to == "on":
        if not (SERVER / "apps" / name).is_dir():
            raise Refused("there is no such app")
        _call(["systemctl", "start", "--no-block", unit])
    else:
        _call(["systemctl", "stop", unit])
    return {}


def ports(request: dict[str, Any]) -> dict[str, Any]:
    """Let only those reach the ports of apps who may; these apps are all that there are."""
    firewall.write(owned_ports(request), _call)
    return {}


def proxy(request: dict[str, Any]) -> dict[str, Any]:
    """Render and take into use the configuration of all apps."""
    # loaded by the verbs that need them: each request is a process of its own
    from gatling.platform.server.helper import certificates, nginx

    sites = request.get("sites")
    if not isinstance(sites, list):
        raise Refused("sites is not a list")
    kept = certificates.DIRECTORY
    return nginx.write([nginx.site(item, SERVER / "routes", kept) for item in sites], _call)


def proxy_check(_: dict[str, Any]) -> dict[str, Any]:
    """Test nginx' configuration as it is."""
    from gatling.platform.server.helper import nginx

    return nginx.check(_call)


def proxy_rotate(_: dict[str, Any]) -> dict[str, Any]:
    """Rotate the log of requests, if it has reached its size."""
    from gatling.platform.server.helper import nginx

    return nginx.rotate(_call)


def certificate_add(request: dict[str, Any]) -> dict[str, Any]:
    """Keep a certificate and its key for an app."""
    from gatling.platform.server.helper import certificates

    return certificates.add(request, SERVER / "apps")


def certificate_request(request: dict[str, Any]) -> dict[str, Any]:
    """Make a key for an app's domains, and the request for a CA."""
    from gatling.platform.server.helper import certificates

    return certificates.request(request, SERVER / "apps")


def certificate_install(request: dict[str, Any]) -> dict[str, Any]:
    """Keep the certificate that a CA issued for that key."""
    from gatling.platform.server.helper import certificates

    return certificates.install(request, SERVER / "apps")


def certificate_copy(request: dict[str, Any]) -> dict[str, Any]:
    """Keep a certificate of one app for another one as well."""
    from gatling.platform.server.helper import certificates

    return certificates.copy(request, SERVER / "apps")


def certificate(request: dict[str, Any]) -> dict[str, Any]:
    """Take a certificate out of use, or remove it."""
    from gatling.platform.server.helper import certificates

    return certificates.change(request)


def logs(request: dict[str, Any], files: list[int], connection: socket.socket) -> dict[str, Any]:
    """Print the journal of an app's instances, as JSON, to the client's standard output.

    The newest line comes first. A followed log begins at a time or after an entry.
    """
    name = names.app_name(text(request, "app"))
    # with the system's own journal, which has the lines of instances of an older Gatling
    argv = ["journalctl", f"--namespace=+{units.user(name)}", "--output=json", "--quiet",
            "--no-pager", "--output-fields=MESSAGE,_SYSTEMD_UNIT,_PID"]  # fmt: skip
    since = f"--since=@{number(request, 'since', 0, 1e12):.6f}" if request.get("since") else ""
    if request.get("follow") is True:  # also units that there will be
        # journalctl refuses both
        start = f"--after-cursor={cursor(request)}" if request.get("after") else since
        if not start:
            raise Refused("a followed log needs the place where it begins")
        argv += [start, "--follow", "--no-tail", f"_UID={_user(name)}"]
    else:  # backwards, or systemd 252 gives the first lines after --since instead of the last
        argv += [since] if since else []
        argv += [f"--lines={int(number(request, 'lines', 0, 10_000_000))}", "--reverse"]
        # not --unit=, which adds what systemd says of a unit to what the unit says
        argv += [f"_SYSTEMD_UNIT={units.instance(name, place)}" for place in slots(request)]
    return running.attend(argv, files, connection, on_gone=running.STOP)


def toolchain_install(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Install a toolchain for the builds of all apps."""
    from gatling.platform.server.helper import toolchains

    return toolchains.install(request, files, connection)


def toolchain_remove(request: dict[str, Any]) -> dict[str, Any]:
    """Remove a toolchain."""
    from gatling.platform.server.helper import toolchains

    return toolchains.remove(request)


def database_install(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Install PostgreSQL."""
    from gatling.platform.server.helper import databases

    return databases.install(request, files, connection)


def database_create(request: dict[str, Any]) -> dict[str, Any]:
    """Create a cluster with a database."""
    from gatling.platform.server.helper import databases

    return databases.create(request, SERVER / "apps", _call)


def database_access(request: dict[str, Any]) -> dict[str, Any]:
    """Let these apps use a database."""
    from gatling.platform.server.helper import databases

    return databases.access(request, SERVER / "apps", _call)


def database_facts(request: dict[str, Any]) -> dict[str, Any]:
    """The state of a cluster."""
    from gatling.platform.server.helper import databases

    return databases.facts(request)


def database_keep(request: dict[str, Any]) -> dict[str, Any]:
    """Write a last copy of a database."""
    from gatling.platform.server.helper import databases

    return databases.keep(request)


def database_remove(request: dict[str, Any]) -> dict[str, Any]:
    """Remove a cluster."""
    from gatling.platform.server.helper import databases

    return databases.remove(request, _call)


PLAIN = {"app": app, "slot": slot_unit, "discard": discard, "forget": forget, "start": start,
         "prepare": prepare, "stop": stop, "end": end, "schedule": schedule, "ports": ports,
         "watch": watch, "proxy": proxy, "proxy-check": proxy_check,
         "proxy-rotate": proxy_rotate, "drain": drain,
         "certificate-add": certificate_add, "certificate": certificate,
         "certificate-request": certificate_request, "certificate-install": certificate_install,
         "certificate-obtain": certificate_obtain, "certificate-copy": certificate_copy,
         "notify": notify, "toolchain-remove": toolchain_remove,
         "database-create": database_create, "database-access": database_access,
         "database-facts": database_facts, "database-keep": database_keep,
         "database-remove": database_remove}  # fmt: skip
ATTENDED = {"run": run, "push": push, "logs": logs, "toolchain-install": toolchain_install,
            "database-install": database_install}  # fmt: skip
VERBS = frozenset({*PLAIN, *ATTENDED})
READERS = frozenset({"logs"})
"""Verbs with a socket of their own: readers of logs keep no deployment waiting."""


def main(verbs: frozenset[str] = VERBS) -> None:
    """Answer the one request of the connection that is standard input, and log it."""
    began = time.monotonic()
    gc.freeze()  # the modules are no garbage
    connection = socket.socket(fileno=os.dup(0))
    files: list[int] = []
    request: dict[str, Any] = {}
    try:
        request = _received(connection, files)
        verb = text(request, "verb")
        if verb not in verbs:
            raise UnknownVerb("no such verb")
        if verb in PLAIN:
            answer = PLAIN[verb](request)
        elif len(files) == 3:
            answer = ATTENDED[verb](request, files, connection)
        else:
            raise Refused("it needs three files")
    except UnknownVerb as refused:
        answer = {"refused": str(refused), "code": "unknown-verb"}
    except Refused as refused:
        answer = {"refused": str(refused)}
    except InvalidInput as error:
        answer = {"refused": error.what, "hint": error.hint, "code": "invalid-input"}
    except GatlingError as error:
        answer = {"refused": error.what}
    except running.NotStarted as error:
        answer = {"failed": str(error)}
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode("utf-8", "replace").strip()
        answer = {"failed": f"{error.cmd[0]} exited with status {error.returncode}", "log": said}
    except (OSError, subprocess.SubprocessError) as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    except Exception:  # noqa: BLE001 (the client gets an answer, and the journal the traceback)
        traceback.print_exc()
        answer = {"failed": "a defect in the helper; its traceback is in the journal"}
    journal.note(connection, request, answer, time.monotonic() - began)
    with connection, contextlib.suppress(OSError):  # a client who is gone
        connection.sendall(json.dumps(answer).encode())


def _received(connection: socket.socket, files: list[int]) -> dict[str, Any]:
    """The request: its length in four bytes, JSON; up to three files come along."""
    pid, uid = journal.peer(connection)
    if uid not in (0, pwd.getpwnam(units.OWNER).pw_uid):
        raise Refused(f"process {pid} of user {uid} may not ask")
    data = b""
    connection.settimeout(10)
    size = 4
    while len(data) < size:  # and no more: what comes after it is heeded later (running.py)
        piece, came, _, _ = socket.recv_fds(connection, min(65536, size - len(data)), 3)
        files += came
        data += piece
        if not piece or len(files) > 3:
            raise Refused("not a request")
        if len(data) == 4:
            size += struct.unpack("!I", data)[0]
            if size > MAX_REQUEST:
                raise Refused("not a request")
    connection.settimeout(None)
    try:
        request = json.loads(data[4:])
    except (ValueError, RecursionError):
        raise Refused("not JSON") from None
    if not isinstance(request, dict):
        raise Refused("not an object")
    return request


def _directories(name: str, user: pwd.struct_passwd) -> None:
    """Make an app's directories; as a whole, in a directory that only root can write to."""
    directory = SERVER / "apps" / name
    if directory.exists():
        return
    owner = pwd.getpwnam(units.OWNER)
    making = SERVER / "apps" / f".{name}.new"
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
    lines = units.drop_in(name, SERVER / "apps" / name, wanted, stop_seconds, own_ports)
    with unit_files.writing(_call) as written:
        namespaces.write(UNITS, name, written)
        for unit in (units.instance(name, place) for place in places):
            written.write(UNITS / f"{unit}.d" / "app.conf", lines)
            written.link(UNITS / "multi-user.target.wants" / unit, UNITS / "gatling@.service")


def _remove_units(name: str, places: Iterable[int | str]) -> None:
    with unit_files.writing(_call) as written:
        for unit in (units.instance(name, place) for place in places):
            written.remove(UNITS / "multi-user.target.wants" / unit, UNITS / f"{unit}.d")


def _end(patterns: list[str]) -> None:
    _call(["systemctl", "stop", *patterns], check=False)
    _call(["systemctl", "reset-failed", *patterns], check=False)


def _user(name: str) -> int:
    try:
        return pwd.getpwnam(units.user(name)).pw_uid
    except KeyError:
        raise Refused("there is no such app") from None


def _identifier(request: dict[str, Any]) -> str:
    value = text(request, "id")
    if not re.fullmatch(r"[a-z0-9]{1,40}", value):
        raise Refused("id")
    return value


def _call(argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
    done = subprocess.run(argv, check=check, timeout=timeout, stdin=subprocess.DEVNULL,
                          capture_output=True)  # fmt: skip
    return (done.stdout + done.stderr).decode("utf-8", "replace")


if __name__ == "__main__":
    main(READERS if sys.argv[1:] == ["logs"] else VERBS - READERS)
