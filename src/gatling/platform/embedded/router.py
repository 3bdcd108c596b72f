"""The embedded home's proxy: nginx run by the user on a high port, kept up by the supervisor."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import time
from typing import TYPE_CHECKING

from gatling import files, process, times
from gatling.errors import CommandFailed, InvalidInput, PortTaken, ProxyRefused
from gatling.paths import exclusively
from gatling.platform import ports
from gatling.platform.base import Address, State
from gatling.platform.embedded import listening
from gatling.platform.embedded.configuration import PROXY
from gatling.platform.embedded.listening import LISTEN_TLS, parse_listen
from gatling.platform.embedded.supervisord import settled
from gatling.proxy import generations
from gatling.proxy.log_rotation import LOG
from gatling.proxy.published import in_maintenance, publish
from gatling.proxy.route import point_at, pointed
from gatling.proxy.site import Listen, Site
from gatling.state import home_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.platform.embedded.certificates import OwnCertificates
    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.state.apps import App
    from gatling.state.database import Database

MODE = 0o700
"""Of the directories that nginx reads, which is run by the same user."""
EVERY_ADDRESS = ("0.0.0.0", "*")  # noqa: S104
DEFAULT_LISTEN = "127.0.0.1:8080"
ANOTHER_TLS = "`gatling up --tls 127.0.0.1:8444`"
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
        self.tls = home_settings.get(db, LISTEN_TLS) or ""
        """The address for HTTPS; empty: HTTP only."""

    @functools.cached_property
    def _certificates(self) -> OwnCertificates:
        # loaded only while the proxy serves HTTPS
        from gatling.platform.embedded.certificates import OwnCertificates

        return OwnCertificates(self._home, self._db)

    def ensure_running(self) -> None:
        """Start nginx when it does not run; raises PortTaken or ProxyRefused."""
        probed = self.probe_address()
        if self._is_settled() and ports.answers(probed.port, probed.host):
            return
        with exclusively(self._home, "router"):
            if not self._programs.status(PROXY).up:
                self._start()

    def _start(self) -> None:
        from gatling.proxy import takeover

        _need_free(self.listen, "`gatling up --listen 127.0.0.1:8081`")
        if self.tls:
            _need_free(self.tls, ANOTHER_TLS)
        self.check()
        # remembered: the next command may run in another environment
        home_settings.put(self._db, "listen", self.listen)
        files.write(
            self._home.nginx / "instance.json",
            _instance(listening.nginx(), self._home.nginx),
        )
        takeover.read(self._conf)  # what starts now reads it
        self._programs.start(PROXY)
        probed = self.probe_address()
        for last in times.looks(STARTUP_SECONDS, 0.01):
            if ports.answers(probed.port, probed.host):
                return
            status = self._programs.status(PROXY)
            if last or status.state in (State.RESTARTING, State.FAILED):
                raise ProxyRefused("nginx does not start.", log=self._last_errors())

    def configure(self, apps: Sequence[App]) -> bool:
        """See Router."""
        # most commands configure nothing, and need only the address
        from gatling.proxy import nginx, parts, passwords, takeover

        self._prepare()
        now = time.time()
        if self.tls:
            self._certificates.follow(apps, now)
        sites = [self._site(app, now) for app in apps]
        text = nginx.main_configuration(
            self._home.nginx, self._listen(), sites, as_root=os.geteuid() == 0
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
        if self.tls:
            self._certificates.tidy(apps, now)
        self._schedule_renewal()
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

    def check_listen(self, address: str | None, tls: str | None = None) -> None:
        """See Router."""
        listening.tls_address(self.listen if address is None else address, self.tls, tls)

    def listen_on(self, address: str | None, tls: str | None = None) -> None:
        """See Router."""
        plain = self.listen if address is None else address
        secured = listening.tls_address(plain, self.tls, tls)
        if secured and secured != self.tls:
            listening.need_tls()
            _need_free(secured, ANOTHER_TLS)
        if address is not None:
            home_settings.put(self._db, "listen", address)
        if secured != self.tls:
            home_settings.put(self._db, LISTEN_TLS, secured)
        self.listen, self.tls = plain, secured

    def url(self, app: App) -> str:
        """See Router."""
        domain = app.primary_domain
        if self.tls and domain in self._certificates.places(app, time.time()):
            return listening.url("https", domain, self.tls)
        return listening.url("http", domain, self.listen)

    def probe_address(self) -> Address:
        """See Router."""
        return _reached(self.listen)

    def tls_address(self) -> Address | None:
        """See Router."""
        return _reached(self.tls) if self.tls else None

    def is_public(self) -> bool:
        """See Router."""
        addresses = [parse_listen(one)[0] for one in (self.listen, self.tls) if one]
        return any(not address.startswith("127.") for address in addresses)

    def public_address(self) -> str | None:
        """See Router."""
        return ports.public_address()

    def request_log(self) -> Path:
        """See Router."""
        return self._home.nginx / LOG

    def tidy_log(self) -> None:
        """See Router."""
        from gatling.platform.embedded import request_log

        with contextlib.suppress(OSError, ValueError):  # nginx does not run, or the disk is full
            request_log.tidy(self.request_log())

    def offers_https(self) -> bool:
        """See Router: nothing is known of a proxy in front of this one."""
        return bool(self.tls)

    def need_http3(self, *, applied: bool = False) -> None:  # noqa: ARG002 # it never does
        """See Router: browsers do not trust a local authority over HTTP/3."""
        raise InvalidInput("HTTP/3 is served on servers only.")

    def _is_settled(self) -> bool:
        """Whether nginx has been running for a while, judged by its OS process."""
        return self._programs.running() and settled(self._home.nginx) is not None

    @property
    def _conf(self) -> Path:
        return self._home.nginx / "nginx.conf"

    def _site(self, app: App, now: float) -> Site:
        from gatling.proxy import wishes

        route = self._home.app(app.name).route
        places = self._certificates.places(app, now) if self.tls else {}
        return Site(app.name, app.domains, app.ports, route, wishes.of_app(app), places)

    def _listen(self) -> Listen:

        if not self.tls:
            return Listen((self.listen,))
        build = listening.built()
        return Listen(
            (self.listen,), (self.tls,),
            http2_directive=build.http2_directive, http2=build.http2,
        )  # fmt: skip

    def _schedule_renewal(self) -> None:
        """Let the clock renew the certificates before they expire, and no longer than needed."""
        if self.tls or self._home.renewal.exists():
            from gatling.platform.embedded.schedule import ClockSchedule

            if not self.tls:
                self._home.renewal.unlink(missing_ok=True)
            ClockSchedule(self._home, self._programs).follow()

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
                [*listening.nginx(), "-t", "-q", "-p", str(self._home.nginx), "-c", str(conf)],
                timeout=30,
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


def _reached(listen: str) -> Address:
    """The address at which this machine reaches the proxy."""
    address, port = parse_listen(listen)
    return Address("127.0.0.1" if address in EVERY_ADDRESS else address, port)


def _need_free(listen: str, another: str) -> None:
    """Raise PortTaken when something else listens there; InvalidInput for a port of root's.

    `another` is the command that chooses another port.
    """
    address, port = parse_listen(listen)
    if not ports.is_free(port, address):
        raise PortTaken(
            f"The proxy cannot listen on {listen}: {ports.owner(port)} does.",
            hint=f"Choose another port: {another}.",
        )


def _instance(program: list[str], directory: Path) -> str:
    argv = [*program, "-p", str(directory), "-c", str(directory / "nginx.conf"),
            "-g", "daemon off;"]  # fmt: skip
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    return json.dumps({"argv": argv, "cwd": str(directory), "env": environment})
