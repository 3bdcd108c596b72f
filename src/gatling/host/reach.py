"""Whether the ports of apps are closed to the network and to neighbours: tried, not assumed.

Part of `gatling server check`. A process of the user nobody, who may do nothing, connects to every
port on which an app listens, on loopback and on each address that the network reaches, over IPv4
and over IPv6.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling import process
from gatling.errors import GatlingError
from gatling.platform.server import firewall, units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gatling.state.apps import App

STRANGER = "nobody"
SECONDS = 2.0
EPMD = (
    f"An epmd listens on port {firewall.EPMD} of every address and names the nodes it knows.",
    "`systemctl disable --now epmd.socket epmd.service`, unless another program needs it.",
)
SYN_COOKIES = Path("/proc/sys/net/ipv4/tcp_syncookies")
"""For IPv6 as well."""
COOKIES = (
    "net.ipv4.tcp_syncookies is 2: answers with SYN cookies carry no user, and are dropped.",
    "`sysctl net.ipv4.tcp_syncookies=1`, and change it in /etc/sysctl.d, or nginx reaches no app.",
)
Place = tuple[str, int]
Fault = tuple[str, str]
"""The fault, and advice about it."""


def faults(apps: Sequence[App], *, stranger: str = STRANGER) -> Iterator[Fault]:
    """Yield the faults by which another user of the machine can reach these apps."""
    missing = missing_ports(apps, _guarded_ports())
    if missing:
        named = ", ".join(map(str, missing))
        hint = f"`systemctl restart {units.FENCE}`; `journalctl -u {units.FENCE}` shows the reason."
        yield f"The kernel's table of guarded ports lacks {named}.", hint
    listening = _listening()
    owners = {port: app.name for app in apps for port in app.every_port}
    places = [(address, port)
              for port in sorted(owners.keys() & listening.keys())
              for address in addresses()]  # fmt: skip
    for address, port in reached(places, stranger):
        what = f"The user {stranger} reaches {owners[port]} on {address}, port {port}."
        yield what, f"`systemctl restart {units.FENCE}`"
    if any(_is_open(address) for address in listening.get(firewall.EPMD, ())):
        yield EPMD
    yield from cookies()


def cookies(file: Path = SYN_COOKIES) -> Iterator[Fault]:
    """Whether the kernel answers with SYN cookies always, and not only when it is flooded."""
    with contextlib.suppress(OSError):
        if file.read_text().strip() == "2":
            yield COOKIES


def others(apps: Sequence[App]) -> Iterator[str]:
    """Further ports on which apps listen for the network, in words: nothing guards those."""
    import psutil

    users = {units.user(app.name): app for app in apps}
    for one in psutil.net_connections(kind="tcp"):
        if one.status != psutil.CONN_LISTEN or not one.laddr or not _is_open(one.laddr.ip):
            continue
        with contextlib.suppress(psutil.Error, TypeError):
            app = users.get(psutil.Process(one.pid).username())
            if app is not None and one.laddr.port not in app.every_port:
                yield f"{app.name} also listens on port {one.laddr.port}, open to the network."


def missing_ports(apps: Sequence[App], listed: str) -> list[int]:
    """Ports of apps that are not in a set, as nft lists it in JSON (libnftables-json(5))."""
    described = json.loads(listed)["nftables"] if listed else []
    guarded = {port for one in described for port in one.get("set", {}).get("elem", ())}
    return [port for app in apps for port in app.every_port if port not in guarded]


def reached(places: Iterable[Place], user: str) -> list[Place]:
    """Of these addresses and ports those to which a process of that user can connect; as root.

    Raises GatlingError when that process could not try them all.
    """
    wanted = list(places)
    if not wanted:
        return []
    # resolved here: a bare address of one link would lose its interface
    targets = [_target(*place) for place in wanted]
    entry = pwd.getpwnam(user)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            found = "".join(f"{at}\n" for at, target in enumerate(targets) if _connects(*target))
            os.write(writing, found.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answers:
        numbers = answers.read().split()
    _, status = os.waitpid(child, 0)
    if status != 0:  # silence would look like a port that is closed
        raise GatlingError(f"A process of the user {user} could not try to connect.")
    return [wanted[int(at)] for at in numbers]


def _target(address: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family, _, _, _, place = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    return family, place


def _connects(family: socket.AddressFamily, place: tuple[Any, ...]) -> bool:
    with contextlib.closing(socket.socket(family)) as probe:
        probe.settimeout(SECONDS)
        return probe.connect_ex(place) == 0


def _guarded_ports() -> str:
    try:
        return process.output(
            ["nft", "--json", "list", "set", "inet", firewall.TABLE, firewall.PORTS]
        )
    except GatlingError:
        return ""


def _listening() -> dict[int, list[str]]:
    import psutil

    found: dict[int, list[str]] = {}
    for one in psutil.net_connections(kind="tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr:
            found.setdefault(one.laddr.port, []).append(one.laddr.ip)
    return found


def addresses() -> list[str]:
    """Loopback and all addresses of this host; those of one link with their interface."""
    import psutil

    every = [one for each in psutil.net_if_addrs().values() for one in each]
    found = [one.address for one in every if one.family in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys(["127.0.0.1", *found]))


def _is_open(address: str) -> bool:
    return not address.startswith("127.") and address not in ("::1", "::ffff:127.0.0.1")
