"""The server home's proxy: the system's nginx, whose configuration root's helper writes."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from gatling import names, times
from gatling.errors import GatlingError, InvalidInput, ProxyRefused
from gatling.platform import ports
from gatling.platform.base import Address
from gatling.platform.server.helper import client
from gatling.platform.server.helper.certificates import DIRECTORY
from gatling.proxy import certificates, log_rotation, wishes
from gatling.proxy.published import in_maintenance, publish
from gatling.proxy.route import point_at, pointed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.platform.server.home import ServerHome
    from gatling.state.apps import App

NGINX = "/usr/sbin/nginx"
PORT = 80
TLS_PORT = 443
MODE = 0o755
"""Of the directories that nginx reads, which is another user."""
STARTUP_SECONDS = 10.0


class SystemRouter:
    """nginx of the system. Implements `Router`; see there for the calls."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home

    def ensure_running(self) -> None:
        """systemd keeps nginx running; raises ProxyRefused when it does not answer."""
        if not any(ports.answers(PORT) for _ in times.looks(STARTUP_SECONDS, 0.05)):
            raise ProxyRefused(
                f"Nothing listens on port {PORT}: nginx does not run.",
                hint="`systemctl status nginx` says why.",
            )

    def configure(self, apps: Sequence[App]) -> bool:
        """See Router."""
        answer = client.ask(
            "proxy",
            sites=[
                {"app": a.name, "domains": list(a.domains), "ports": [a.ports[1], a.ports[2]]}
                | wishes.of_app(a).plain()
                for a in apps
            ],
        )
        _accepted(answer)
        return bool(answer["changed"])

    def check(self) -> None:
        """See Router."""
        _accepted(client.ask("proxy-check"))

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
        """See Router: it is the operator's."""
        if tls is not None:
            raise InvalidInput(
                f"On a server the proxy serves HTTPS on port {TLS_PORT} by itself.",
                hint="`gatling certificates account --email ADDRESS` obtains certificates.",
            )
        if address is not None:
            raise InvalidInput(
                f"On a server the proxy is the system's nginx, which listens on port {PORT}.",
                hint="A file of your own in /etc/nginx/conf.d can add other addresses.",
            )

    def listen_on(self, address: str | None, tls: str | None = None) -> None:
        """See Router."""
        self.check_listen(address, tls)

    def url(self, app: App) -> str:
        """See Router."""
        kept = certificates.stored(DIRECTORY, app.name)
        served = certificates.chosen(kept, [app.primary_domain], time.time())
        return f"{'https' if served else 'http'}://{names.host(app.primary_domain)}"

    def probe_address(self) -> Address:
        """See Router."""
        return Address("127.0.0.1", PORT)

    def tls_address(self) -> Address:
        """See Router."""
        return Address("127.0.0.1", TLS_PORT)

    def is_public(self) -> bool:
        """See Router."""
        return True

    def public_address(self) -> str | None:
        """See Router."""
        return ports.public_address()

    def request_log(self) -> Path:
        """See Router."""
        from gatling.platform.server.helper import nginx

        return nginx.LOG

    def tidy_log(self) -> None:
        """See Router."""
        if log_rotation.is_due(self.request_log()):
            with contextlib.suppress(GatlingError):  # the timer of recovery tries again
                client.ask("proxy-rotate")

    def offers_https(self) -> bool:
        """See Router: a proxy in front of the server may."""
        return True

    def need_http3(self, *, applied: bool = False) -> None:
        """See Router."""
        from gatling import process
        from gatling.proxy import features, parts

        if not features.read(process.run([NGINX, "-V"], timeout=30).text).http3:
            raise InvalidInput(
                "This server's nginx was built without HTTP/3.",
                hint="HTTPS works without it. Debian has the module since version 13, nginx.org's"
                " packages since 1.25: `nginx -V` lists the modules.",
            )
        if applied and _left_out() & parts.WITHOUT_HTTP3:
            raise InvalidInput(
                f"Another site of this server's nginx has port {TLS_PORT}, as its default server or"
                " with HTTP/3.",
                hint=f"`grep -rn 'listen.*{TLS_PORT}' /etc/nginx` shows its file. Remove"
                " `default_server` and `quic` there, then set the setting again.",
            )


def _left_out() -> frozenset[str]:
    """The optional parts that the applied configuration leaves out; none if it cannot be read."""
    from gatling.platform.server.helper import nginx
    from gatling.proxy import parts

    try:
        return parts.noted((nginx.DIRECTORY / nginx.SITES).read_text())
    except OSError:
        return frozenset()


def _accepted(answer: dict[str, Any]) -> None:
    if answer.get("invalid"):
        raise ProxyRefused(
            "nginx refuses the configuration. The previous one remains applied.",
            hint="Check your own files in /etc/nginx: run `nginx -t` as root.",
            log=answer["log"],
        )
