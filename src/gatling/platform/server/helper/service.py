"""The only part of Gatling that runs as root while a server is in use.

systemd starts it for a connection to gatling-helper.socket, which the user gatling alone may open;
each request is answered in a process of its own (serving.py). A request is one of the verbs below
with arguments of known shapes, validated here whatever the client did: app names, slots, numbers,
patterns. Nothing of a request becomes part of a shell command or of a path other than by a
validated app name; root never writes into a directory that another user can write to. Programs are
run as an app's user or as gatling, never as root.

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
    database-point      make a restore point in its log
    database-keep       write a last copy of it, compared with it
    database-keep-former      do so for a cluster in whose place another one is used
    database-remove     remove a cluster of which there is such a copy
    database-backup     back it up and prove the backup, as postgres, in a unit with limits
    database-restore    restore a backup into a new cluster, as postgres, in a unit with limits
    database-dump       write a dump of a database to the client's file, once it is proved
    database-load       restore a dump of another host into a new cluster
    database-fork       fork a running cluster into a new one, as postgres, in a unit with limits
    database-own        take a fork for a database that is not removed without a copy
    database-upgrade    upgrade it to another version in a new cluster, or rehearse that on a copy
    database-retire     stop a cluster in whose place another one is used
    database-analyze    have it gather its planner's statistics
    database-backups    the backups of a database
    database-repository       where backups are kept, without secrets
    database-repository-set   keep further backups elsewhere, once that was tried as postgres
    database-backup-install   install pgBackRest from the distribution
    database-volume           show, create or enlarge the file system that databases are on
    database-volume-install   install xfsprogs from the distribution
    pool                have a pool of connections of an app run, as the app's user
    pool-remove         stop and remove it
    pool-install        install PgBouncer from the distribution, without its own service
    drain               send the log of an app to a drain, as gatling, in a unit of its own, or stop
    sample              sample the numbers of all apps, as gatling, in a unit of its own, or stop
    notify              send the notifications that wait, as gatling, in a unit of its own
    logs         what the instances of an app have printed

The journal has a line for each request: verb, app, who asked, the outcome, how long it took. `logs`
is answered on a socket of its own, for each of whose connections systemd starts a process. Only the
standard library and the package's own pure renderers are loaded, and the library `cryptography` to
read a certificate that is added.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# last, so that no package that is installed beside Gatling takes the place of a standard module
sys.path.append(str(Path(__file__).resolve().parents[4]))

from gatling.errors import GatlingError, InvalidInput
from gatling.platform.server import helper, units
from gatling.platform.server.helper import (
    apps,
    database_verbs,
    firewall,
    journal,
    machine,
    programs,
    running,
    serving,
)
from gatling.platform.server.helper.shapes import Refused, UnknownVerb, owned_ports, text

MAX_REQUEST = 4 << 20
"""Bytes of a request: environments are part of it."""


def ports(request: dict[str, Any]) -> dict[str, Any]:
    """Let only those reach the ports of apps who may; these apps are all that there are."""
    firewall.write(owned_ports(request), machine.call)
    return {}


def proxy(request: dict[str, Any]) -> dict[str, Any]:
    """Render and take into use the configuration of all apps."""
    # loaded by the verbs that need them, so that the first request need not wait for all
    from gatling.platform.server.helper import certificates, nginx

    sites = request.get("sites")
    if not isinstance(sites, list):
        raise Refused("sites is not a list")
    kept = certificates.DIRECTORY
    routes = machine.SERVER / "routes"
    return nginx.write([nginx.site(item, routes, kept) for item in sites], machine.call)


def proxy_check(_: dict[str, Any]) -> dict[str, Any]:
    """Test nginx' configuration as it is."""
    from gatling.platform.server.helper import nginx

    return nginx.check(machine.call)


def proxy_rotate(_: dict[str, Any]) -> dict[str, Any]:
    """Rotate the log of requests, if it has reached its size."""
    from gatling.platform.server.helper import nginx

    return nginx.rotate(machine.call)


def certificate_add(request: dict[str, Any]) -> dict[str, Any]:
    """Keep a certificate and its key for an app."""
    from gatling.platform.server.helper import certificates

    return certificates.add(request, machine.SERVER / "apps")


def certificate_request(request: dict[str, Any]) -> dict[str, Any]:
    """Make a key for an app's domains, and the request for a CA."""
    from gatling.platform.server.helper import certificates

    return certificates.request(request, machine.SERVER / "apps")


def certificate_install(request: dict[str, Any]) -> dict[str, Any]:
    """Keep the certificate that a CA issued for that key."""
    from gatling.platform.server.helper import certificates

    return certificates.install(request, machine.SERVER / "apps")


def certificate_copy(request: dict[str, Any]) -> dict[str, Any]:
    """Keep a certificate of one app for another one as well."""
    from gatling.platform.server.helper import certificates

    return certificates.copy(request, machine.SERVER / "apps")


def certificate(request: dict[str, Any]) -> dict[str, Any]:
    """Take a certificate out of use, or remove it."""
    from gatling.platform.server.helper import certificates

    return certificates.change(request)


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
    from gatling.platform.server.helper import database_packages

    return database_packages.install(request, files, connection)


def database_create(request: dict[str, Any]) -> dict[str, Any]:
    """Create a cluster with a database."""
    from gatling.platform.server.helper import databases

    return databases.create(request, machine.SERVER / "apps", machine.call)


def database_access(request: dict[str, Any]) -> dict[str, Any]:
    """Let these apps use a database."""
    from gatling.platform.server.helper import databases

    return databases.access(request, machine.SERVER / "apps", machine.call)


def database_facts(request: dict[str, Any]) -> dict[str, Any]:
    """The state of a cluster."""
    from gatling.platform.server.helper import databases

    return databases.facts(request)


def database_point(request: dict[str, Any]) -> dict[str, Any]:
    """Make a restore point in the log of a cluster."""
    from gatling.platform.server.helper import databases

    return databases.point(request)


def database_backup(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Back a cluster up."""
    from gatling.platform.server.helper import backups

    return backups.make(request, machine.SERVER / "apps", machine.call, files, connection)


def database_restore(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Restore a backup into a new cluster."""
    from gatling.platform.server.helper import backups

    return backups.restore(request, machine.call, files, connection)


def database_backups(request: dict[str, Any]) -> dict[str, Any]:
    """List the backups of a database."""
    from gatling.platform.server.helper import backups

    return backups.listed(request)


def database_repository(request: dict[str, Any]) -> dict[str, Any]:
    """The place of backups."""
    from gatling.platform.server.helper import backups

    return backups.repository(request)


def database_repository_set(request: dict[str, Any]) -> dict[str, Any]:
    """Keep further backups elsewhere."""
    from gatling.platform.server.helper import backups

    return backups.set_repository(request)


def database_backup_install(
    request: dict[str, Any],  # noqa: ARG001
    files: list[int],
    connection: socket.socket,
) -> dict[str, Any]:
    """Install pgBackRest."""
    from gatling.platform.server.helper import backups

    return backups.install(files, connection)


PLAIN = {
    "app": apps.app,
    "slot": apps.slot_unit,
    "discard": apps.discard,
    "forget": apps.forget,
    "start": programs.start,
    "prepare": programs.prepare,
    "stop": programs.stop,
    "end": programs.end,
    "schedule": programs.schedule,
    "ports": ports,
    "watch": programs.watch,
    "drain": programs.drain,
    "sample": programs.sample,
    "proxy": proxy,
    "proxy-check": proxy_check,
    "proxy-rotate": proxy_rotate,
    "certificate": certificate,
    "certificate-add": certificate_add,
    "certificate-request": certificate_request,
    "certificate-install": certificate_install,
    "certificate-obtain": programs.certificate_obtain,
    "certificate-copy": certificate_copy,
    "notify": programs.notify,
    "toolchain-remove": toolchain_remove,
    "database-create": database_create,
    "database-access": database_access,
    "database-facts": database_facts,
    "database-point": database_point,
    "database-backups": database_backups,
    "database-repository": database_repository,
    "database-repository-set": database_repository_set,
}
ATTENDED = {
    "run": programs.run,
    "push": programs.push,
    "logs": programs.logs,
    "toolchain-install": toolchain_install,
    "database-install": database_install,
    "database-backup": database_backup,
    "database-restore": database_restore,
    "database-backup-install": database_backup_install,
}
PLAIN |= database_verbs.PLAIN
ATTENDED |= database_verbs.ATTENDED
VERBS = frozenset({*PLAIN, *ATTENDED})
READERS = frozenset({"logs"})
"""Verbs with a socket of their own: readers of logs keep no deployment waiting."""


def main() -> None:
    """Answer requests: `logs` on standard input, which is one connection, others on a socket."""
    if sys.argv[1:] == ["logs"]:
        answer(socket.socket(fileno=os.dup(0)), READERS)
    else:
        serving.serve(serving.passed(), answer, load)


def load() -> None:
    """Load what verbs need, for all requests to come."""
    for module in pkgutil.iter_modules(helper.__path__):
        importlib.import_module(f"{helper.__name__}.{module.name}")


def answer(connection: socket.socket, verbs: frozenset[str] = VERBS - READERS) -> None:
    """Answer the one request of a connection, and log it."""
    began = time.monotonic()
    gc.freeze()  # the modules are no garbage
    files: list[int] = []
    request: dict[str, Any] = {}
    try:
        request = _received(connection, files)
        verb = text(request, "verb")
        if verb not in verbs:
            raise UnknownVerb("no such verb")
        if verb in PLAIN:
            reply = PLAIN[verb](request)
        elif len(files) == 3:
            reply = ATTENDED[verb](request, files, connection)
        else:
            raise Refused("it needs three files")
    except UnknownVerb as refused:
        reply = {"refused": str(refused), "code": "unknown-verb"}
    except Refused as refused:
        reply = {"refused": str(refused)}
    except InvalidInput as error:
        reply = {"refused": error.what, "hint": error.hint, "code": "invalid-input"}
    except GatlingError as error:
        reply = {"refused": error.what}
    except running.NotStarted as error:
        reply = {"failed": str(error)}
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode("utf-8", "replace").strip()
        reply = {"failed": f"{error.cmd[0]} exited with status {error.returncode}", "log": said}
    except (OSError, subprocess.SubprocessError) as error:
        reply = {"failed": f"{type(error).__name__}: {error}"}
    except Exception:  # noqa: BLE001 (the client gets an answer, and the journal the traceback)
        traceback.print_exc()
        reply = {"failed": "a defect in the helper; its traceback is in the journal"}
    journal.note(connection, request, reply, time.monotonic() - began)
    with connection, contextlib.suppress(OSError):  # a client who is gone
        connection.sendall(json.dumps(reply).encode())


def _received(connection: socket.socket, files: list[int]) -> dict[str, Any]:
    """The request: its length in four bytes, JSON; up to three files come along."""
    pid, uid = journal.peer(connection)
    if uid not in (0, machine.account(units.OWNER).pw_uid):
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


if __name__ == "__main__":
    main()
