"""The configuration of the system's nginx: rendered, tested and applied by root.

Everything is in one directory that belongs to root, and a single file in /etc/nginx/conf.d
includes it. The operator's own files are never touched. Additions for one app (`APP.d/*.conf`)
are included in the app's server block, and only root can write them.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling import files, names
from gatling.platform.server.helper.shapes import Refused
from gatling.project import proxy
from gatling.proxy import (
    certificates,
    features,
    generations,
    log_rotation,
    nginx,
    pages,
    parts,
    passwords,
    takeover,
    tls,
)
from gatling.proxy.site import Listen, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIRECTORY = Path("/etc/nginx/gatling")
PID_FILE = Path("/run/nginx.pid")
SITES = "sites.conf"
"""The configuration's file there."""
LOG = Path("/var/log/nginx/gatling-requests")
"""The log of requests. Debian's logrotate takes files named *.log there, and would take away
Gatling's right to read it."""
READER = "gatling"
"""The group that may read it: Gatling's own."""
INCLUDE = Path("/etc/nginx/conf.d/gatling.conf")
MAIN = Path("/etc/nginx/nginx.conf")
UNIT = "nginx.service"
MAX_DOMAINS = 1000
DEFAULT_CONNECTIONS = 512
"""nginx's own `worker_connections`, where its configuration has none."""

TEST = ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$2" && exec nginx -t -q', "sh"]
"""Tests the configuration with one file (the first argument) in another's place (the second).

It is so for this one process only, in a mount namespace: what is applied stays as it is.
"""


def site(item: Any, routes: Path, kept: Path) -> Site:
    """An app as the client describes it, every part of it validated; raises Refused.

    Its certificates are those that root keeps for it in the directory `kept`.
    """
    if not isinstance(item, dict) or not isinstance(item.get("domains"), list):
        raise Refused("not a site")
    app = names.app_name(str(item.get("app")))
    domains = [str(domain) for domain in item["domains"]]
    if not 0 < len(domains) <= MAX_DOMAINS or [names.domain(d) for d in domains] != domains:
        raise Refused(f"the domains of {app}")
    ports = item.get("ports")
    if (
        not isinstance(ports, list)
        or len(ports) != 2
        or not all(type(port) is int and 1024 <= port <= 65535 for port in ports)
    ):
        raise Refused(f"the ports of {app}")
    wishes = proxy.checked(item)
    chosen = certificates.chosen(certificates.stored(kept, app), domains, time.time())
    places = {domain: kept / app / one.id for domain, one in chosen.items()}
    numbers = {1: ports[0], 2: ports[1]}
    challenges = routes.with_name("challenges")
    return Site(app, tuple(domains), numbers, routes / app, wishes, places, challenges)


def render(
    sites: Sequence[Site],
    *,
    ipv6: bool,
    without: frozenset[str] = frozenset(),
    connections: int = DEFAULT_CONNECTIONS,
    http2_directive: bool = False,
    http3: bool = False,
    directory: Path = DIRECTORY,
    log: Path = LOG,
) -> str:
    """The text for nginx's http block, without these optional parts.

    Port 443 is nginx's only when an app has a certificate: another program may have it otherwise.
    HTTP/3 needs Gatling's default server, which shares its socket among nginx's workers.
    """
    listen = Listen(
        ("80", "[::]:80") if ipv6 else ("80",),
        ("443", "[::]:443") if ipv6 else ("443",),
        http2_directive,
        http3=http3 and not without & parts.WITHOUT_HTTP3,
    )
    listen = tls.with_addresses(listen, sites)
    share = parts.limits(connections)
    unknown = ""
    if parts.DEFAULT_SERVER not in without:
        unknown += nginx.default_server(listen, directory / "pages")
    if parts.TLS_DEFAULT_SERVER not in without and any(one.certificates for one in sites):
        unknown += tls.default_servers(listen, sites)
    blocks = "".join(
        nginx.server_blocks(
            one,
            listen,
            directory / "pages",
            directory / "auth",
            share,
            include=f"{directory}/{one.app}.d/*.conf",
        )
        for one in sites
    )
    text = (
        "# Written by Gatling. Your own additions for one app: "
        f"{directory}/APP.d/*.conf, included in its server block.\n{parts.note(without)}"
        "    server_names_hash_bucket_size 512;\n    server_names_hash_max_size 4096;\n"
        f"{parts.MAPS}{parts.request_log(log)}{unknown}{blocks}"
    )
    return parts.left_out(text, without)


def write(
    sites: Sequence[Site],
    call: Callable[..., str],
    directory: Path = DIRECTORY,
    log: Path = LOG,
) -> dict[str, Any]:
    """Apply the configuration of these sites; see takeover.py. `changed` is whether it was new."""
    own = directory / "pages"
    own.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, content in pages.PAGES.items():
        _replace(own / name, content)
    secrets = passwords.write(sites, directory / "auth", group=_worker_group())
    _create(log)
    file = directory / SITES
    file.touch(mode=0o644)  # a candidate can be mounted over a file only
    ipv6, connections = Path("/proc/net/if_inet6").exists(), worker_connections()
    secured = any(site.certificates for site in sites)
    has = features.read(call(["nginx", "-V"]) if secured else "")

    def text(without: frozenset[str]) -> str:
        return render(
            sites,
            ipv6=ipv6,
            without=without,
            connections=connections,
            http2_directive=has.http2_directive,
            http3=has.http3,
            directory=directory,
            log=log,
        )

    try:
        changed = takeover.take(
            file,
            text,
            test=lambda candidate: _said([*TEST, str(candidate), str(file)], call),
            conflicts=parts.conflicts,
            reload=lambda: _reload(call),
            mode=0o644,
        )
    except takeover.Refused as refused:
        return {"invalid": True, "log": refused.log}
    secrets.remove_others()
    return {"changed": changed}


def rotate(call: Callable[..., str], log: Path = LOG) -> dict[str, Any]:
    """Rotate the log of requests if it has reached its size."""
    if log_rotation.is_due(log):
        log_rotation.rotate(log, lambda: _create(log))
        call(["systemctl", "kill", "--signal=USR1", "--kill-whom=main", UNIT])
        if later := later_master(call):
            with contextlib.suppress(ProcessLookupError):
                os.kill(later, signal.SIGUSR1)
    return {}


def master(call: Callable[..., str]) -> int:
    """The process of nginx that starts the workers for new connections; 0 when it does not run."""
    return later_master(call) or _main_process(call)


def _main_process(call: Callable[..., str]) -> int:
    """The process that systemd takes for nginx."""
    said = call(["systemctl", "show", "--property=MainPID", "--value", UNIT]).strip()
    return int(said) if said.isdecimal() else 0


def later_master(call: Callable[..., str], file: Path = PID_FILE) -> int:
    """The process that has replaced systemd's main process; 0 where there is none.

    nginx executes itself again when its package or a library is upgraded. The process of before
    ends with its last connection, and until then systemd takes it for the main one.
    """
    try:
        pid = int(file.read_text())
        later = Path(f"/proc/{pid}/comm").read_text().strip() == "nginx"
    except (OSError, ValueError):
        return 0
    return pid if later and pid != _main_process(call) else 0


def _create(log: Path) -> None:
    try:
        group = grp.getgrnam(READER).gr_gid if os.geteuid() == 0 else None
    except KeyError:
        group = None
    log_rotation.create(log, 0o640, group)


def worker_connections(main: Path = MAIN) -> int:
    """How many connections each worker of the system's nginx may have."""
    try:
        found = re.findall(
            r"^[^#\n]*\bworker_connections\s+(\d+)\s*;", main.read_text(), re.MULTILINE
        )
    except (OSError, UnicodeDecodeError):
        found = []
    return int(found[-1]) if found else DEFAULT_CONNECTIONS


def check(call: Callable[..., str]) -> dict[str, Any]:
    """Test the applied configuration: empty when nginx accepts it."""
    log = _said(["nginx", "-t", "-q"], call)
    return {"invalid": True, "log": log} if log else {}


def _said(argv: list[str], call: Callable[..., str]) -> list[str]:
    """Return the complaints of a test of nginx's configuration; empty when it succeeds."""
    try:
        call(argv)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode("utf-8", "replace").splitlines()[-20:]
        return said or [f"{argv[0]} exited with status {error.returncode}"]
    return []


def _reload(call: Callable[..., str]) -> None:
    """Let nginx read its configuration; raises takeover.Refused when it keeps the one before."""

    def reload() -> None:
        call(["systemctl", "reload-or-restart", UNIT])

    running = master(call)
    if not running:
        reload()
    elif not generations.reloaded(running, reload):
        raise takeover.Refused(["nginx did not reload; its error log has the reason."])


def _worker_group() -> int | None:
    """The group of nginx' workers: Debian's name, or nginx.org's. Only root can give it files."""
    for name in ("www-data", "nginx") if os.geteuid() == 0 else ():
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            continue
    return None


def _replace(file: Path, text: str) -> None:
    if not file.exists() or file.read_text() != text:
        files.write(file, text, mode=0o644)
