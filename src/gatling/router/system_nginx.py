"""The configuration of the system's nginx: rendered, tested and taken into use by root.

Everything stands in one directory of root's, of which a single file in /etc/nginx/conf.d knows.
The operator's own files are never touched; what he adds for one app (`APP.d/*.conf`) is included in
its server block, and only root can add it.
"""

from __future__ import annotations

import grp
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling.helper.shapes import Refused
from gatling.project import names, proxy
from gatling.router import nginx, passwords

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIRECTORY = Path("/etc/nginx/gatling")
INCLUDE = Path("/etc/nginx/conf.d/gatling.conf")
MAX_DOMAINS = 1000


def site(item: Any, routes: Path) -> nginx.Site:
    """An app as the client describes it, every part of it validated; raises Refused."""
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
    return nginx.Site(app, tuple(domains), {1: ports[0], 2: ports[1]}, routes / app, wishes)


def render(
    sites: Sequence[nginx.Site], *, ipv6: bool, hashes: bool = True, directory: Path = DIRECTORY
) -> str:
    """All server blocks, for nginx' http block; `hashes` makes room for long domains."""
    sizes = "    server_names_hash_bucket_size 512;\n    server_names_hash_max_size 4096;\n"
    listen = ("80", "[::]:80") if ipv6 else ("80",)
    blocks = "".join(
        nginx.server_blocks(
            one,
            listen,
            directory / "pages",
            directory / "auth",
            include=f"{directory}/{one.app}.d/*.conf",
        )
        for one in sites
    )
    return (
        "# Written by Gatling. Your own additions for one app: "
        f"{directory}/APP.d/*.conf, included in its server block.\n"
        f"{sizes if hashes else ''}{nginx.MAPS}{blocks}"
    )


def write(
    sites: Sequence[nginx.Site], call: Callable[..., str], directory: Path = DIRECTORY
) -> dict[str, Any]:
    """Write the configuration, test it, reload nginx; put back what was there when it is refused.

    `changed` tells whether anything did.
    """
    pages = directory / "pages"
    pages.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, content in nginx.PAGES.items():
        _replace(pages / name, content)
    secrets = passwords.write(sites, directory / "auth", group=_worker_group())
    ipv6 = Path("/proc/net/if_inet6").exists()
    file = directory / "sites.conf"
    before = file.read_text() if file.exists() else None
    answer: dict[str, Any] = {}
    for hashes in (True, False):  # an operator who has set these sizes himself keeps his own
        text = render(sites, ipv6=ipv6, hashes=hashes, directory=directory)
        if text == before:
            secrets.remove_others()
            return {"changed": False}
        _replace(file, text)
        answer = check(call)
        if not any("server_names_hash" in line for line in answer.get("log", ())):
            break
    if answer:
        if before is None:
            file.unlink()
        else:
            _replace(file, before)
        return answer
    call(["systemctl", "reload-or-restart", "nginx.service"])
    secrets.remove_others()
    return {"changed": True}


def check(call: Callable[..., str]) -> dict[str, Any]:
    """Test the configuration as it stands: empty when nginx accepts it."""
    try:
        call(["nginx", "-t", "-q"])
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode("utf-8", "replace")
        return {"invalid": True, "log": said.splitlines()[-20:]}
    return {}


def _worker_group() -> int | None:
    """The group of nginx' workers: Debian's name, or nginx.org's. Only root can give it files."""
    for name in ("www-data", "nginx") if os.geteuid() == 0 else ():
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            continue
    return None


def _replace(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.rename(file)
