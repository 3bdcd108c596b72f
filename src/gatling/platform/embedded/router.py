"""The embedded home's proxy: nginx run by the user on a high port, kept up by the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.errors import CommandFailed, InvalidInput, PortTaken, ProxyRefused
from gatling.paths import exclusively
from gatling.platform import ports
from gatling.platform.base import Address, State
from gatling.platform.embedded.configuration import PROXY
from gatling.platform.embedded.supervisord import settled
from gatling.proxy import generations
from gatling.proxy.published import in_maintenance, publish
from gatling.proxy.route import point_at, pointed
from gatling.state import home_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.proxy import nginx
    from gatling.state.apps import App
    from gatling.state.database import Database

MODE = 0o700
"""Of the directories that nginx reads, which is run by the same user."""
EVERY_ADDRESS = ("0.0.0.0", "*")  # noqa: S104
DEFAULT_LISTEN = "127.0.0.1:8080"
STARTUP_SECONDS = 10.0


class EmbeddedRouter:
    """nginx of one home. Implements `Router`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, db: Database, programs: Supervisord) -> None:
        self._home = home
        self._db = db
        self._programs = programs
        self.listen = (
            home_settings.get(db, "listen") or os.environ.get("GATLING_LISTEN") or DEFAULT_LISTEN
        )

    def ensure_running(self) -> None:
        """Start nginx when it does not run; raises PortTaken or ProxyRefused."""
        address, port = parse_listen(self.listen)
        if self._is_settled() and ports.answers(port, self.probe_address().host):
            return
        with exclusively(self._home, "router"):
            if not self._programs.status(PROXY).up:
                self._start(address, port)

    def _start(self, address: str, port: int) -> None:
        from gatling.proxy import takeover

        if not ports.is_free(port, address):
            raise PortTaken(
                f"The proxy cannot listen on {self.listen}: {ports.owner(port)} does.",
                hint="Choose another port: `gatling up --listen 127.0.0.1:8081`.",
            )
        self.check()
        # remembered: the next command may run in another environment
        home_settings.put(self._db, "listen", self.listen)
        files.write(
            self._home.nginx / "instance.json",
            _instance(_nginx(), self._home.nginx),
        )
        takeover.read(self._conf)  # what starts now reads it
        self._programs.start(PROXY)
        deadline = time.monotonic() + STARTUP_SECONDS
        probed = self.probe_address()
        while not ports.answers(probed.port, probed.host):
            status = self._programs.status(PROXY)
            if status.state in (State.RESTARTING, State.FAILED) or time.monotonic() > deadline:
                raise ProxyRefused("nginx does not start.", log=self._last_errors())
            time.sleep(0.01)

    def configure(self, apps: Sequence[App]) -> bool:
        """See Router."""
        # most commands configure nothing, and need only the address
        from gatling.proxy import nginx, parts, passwords, takeover

        self._prepare()
        sites = [self._site(app) for app in apps]
        text = nginx.main_configuration(
            self._home.nginx, nginx.Listen((self.listen,)), sites, as_root=os.geteuid() == 0
        )
        secrets = passwords.write(sites, self._home.nginx / "auth")
        try:
            changed = takeover.take(
                self._conf,
                lambda without: parts.left_out(text, without),
                test=self._complaints,
                conflicts=parts.conflicts,
                reload=self._reload,
            )
        except takeover.Refused as refused:
            raise self._refused(refused.log) from None
        secrets.remove_others()
        return changed

    def check(self) -> None:
        """See Router."""
        log = self._complaints(self._conf)
        if log:
            raise self._refused(log)

    def point(self, app: str, slot: int | None) -> None:
        """See Router."""
        point_at(self._home.app(app).route, slot, mode=MODE)

    def pointed(self, app: str) -> int | None:
        """See Router."""
        return pointed(self._home.app(app).route)

    def publish(self, app: str, page: str | None, trees: Sequence[Path]) -> None:
        """See Router."""
        publish(self._home.app(app).route, page, trees, mode=MODE)

    def in_maintenance(self, app: str) -> bool:
        """See Router."""
        return in_maintenance(self._home.app(app).route)

    def check_listen(self, address: str | None) -> None:
        """See Router."""
        parse_listen(self.listen if address is None else address)

    def listen_on(self, address: str) -> None:
        """See Router."""
        self.check_listen(address)
        home_settings.put(self._db, "listen", address)
        self.listen = address

    def url(self, app: App) -> str:
        """See Router."""
        _, port = parse_listen(self.listen)
        return f"http://{app.primary_domain}" + ("" if port == 80 else f":{port}")

    def probe_address(self) -> Address:
        """See Router."""
        address, port = parse_listen(self.listen)
        return Address("127.0.0.1" if address in EVERY_ADDRESS else address, port)

    def tls_address(self) -> None:
        """See Router: an embedded home serves HTTP only."""

    def is_public(self) -> bool:
        """See Router."""
        address, _ = parse_listen(self.listen)
        return not address.startswith("127.")

    def public_address(self) -> str | None:
        """See Router."""
        return ports.public_address()

    def request_log(self) -> Path:
        """See Router."""
        from gatling.proxy import nginx

        return self._home.nginx / nginx.LOG

    def tidy_log(self) -> None:
        """See Router: the supervisor does it (logsink.py)."""

    def offers_https(self) -> bool:
        """See Router: nothing is known of a proxy in front of this one."""
        return False

    def _is_settled(self) -> bool:
        """Whether nginx has been running for a while, judged by its OS process."""
        return self._programs.running() and settled(self._home.nginx) is not None

    @property
    def _conf(self) -> Path:
        return self._home.nginx / "nginx.conf"

    def _site(self, app: App) -> nginx.Site:
        from gatling.proxy import nginx, wishes

        route = self._home.app(app.name).route
        return nginx.Site(app.name, app.domains, app.ports, route, wishes.of_app(app))

    def _prepare(self) -> None:
        from gatling.proxy import pages

        for name in ("temporary", "conf.d", "pages"):
            (self._home.nginx / name).mkdir(mode=0o700, exist_ok=True)
        for name, text in pages.PAGES.items():
            path = self._home.nginx / "pages" / name
            if not path.exists() or path.read_text() != text:
                files.write(path, text)

    def _complaints(self, conf: Path) -> list[str]:
        """Return nginx's complaints about a configuration; empty when it accepts it."""
        try:
            process.run(
                [*_nginx(), "-t", "-q", "-p", str(self._home.nginx), "-c", str(conf)], timeout=30
            )
        except CommandFailed as error:
            return list(error.log) or [error.what]
        return []

    def _refused(self, log: list[str]) -> ProxyRefused:
        return ProxyRefused(
            "nginx refuses the configuration. The previous one remains applied.",
            hint=f"Check your own files in {self._home.nginx}/conf.d.",
            log=log,
        )

    def _reload(self) -> None:
        status = self._programs.status(PROXY) if self._programs.running() else None
        if status is None or not status.up or status.pid is None:
            return  # it reads the configuration when it starts
        master = status.pid
        if not generations.reloaded(master, lambda: os.kill(master, signal.SIGHUP)):
            raise ProxyRefused("nginx did not reload.", log=self._last_errors())

    def _last_errors(self) -> list[str]:
        # supervisord keeps what nginx prints, and rotates it
        with contextlib.suppress(OSError):
            log = self._home.nginx / "nginx.out.log"
            return log.read_text(errors="replace").splitlines()[-10:]
        return []


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of `ADDRESS:PORT` or `PORT`; raises InvalidInput."""
    match = re.fullmatch(r"(?:([0-9]{1,3}(?:\.[0-9]{1,3}){3}|\*):)?([0-9]{1,5})", text)
    octets = match[1].split(".") if match and match[1] and match[1] != "*" else []
    if not match or not 0 < int(match[2]) < 65536 or any(int(octet) > 255 for octet in octets):
        raise InvalidInput(
            f"{text!r} is not an address to listen on.", hint="For example 127.0.0.1:8080."
        )
    return match[1] or "*", int(match[2])


def _nginx() -> list[str]:
    # Debian puts it where users' PATH does not look
    return [shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin") or "nginx"]


def _instance(program: list[str], directory: Path) -> str:
    argv = [*program, "-p", str(directory), "-c", str(directory / "nginx.conf"),
            "-g", "daemon off;"]  # fmt: skip
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    return json.dumps({"argv": argv, "cwd": str(directory), "env": environment})
