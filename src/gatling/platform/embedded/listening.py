"""The addresses on which the proxy of an embedded home listens, and what its nginx can do there."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from gatling import names, process
from gatling.errors import InvalidInput
from gatling.platform.base import AUTO, OFF
from gatling.proxy import features

if TYPE_CHECKING:
    from gatling.proxy.features import Features

LISTEN_TLS = "listen_tls"
"""The setting of the home with the address for HTTPS; empty or missing: HTTP only."""
HTTP, HTTPS = 80, 443


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of `ADDRESS:PORT` or `PORT`; raises InvalidInput."""
    match = re.fullmatch(r"(?:([0-9]{1,3}(?:\.[0-9]{1,3}){3}|\*):)?([0-9]{1,5})", text)
    octets = match[1].split(".") if match and match[1] and match[1] != "*" else []
    if not match or not 0 < int(match[2]) < 65536 or any(int(octet) > 255 for octet in octets):
        raise InvalidInput(
            f"{text!r} is not an address to listen on.", hint="For example 127.0.0.1:8080."
        )
    return match[1] or "*", int(match[2])


def tls_address(plain: str, before: str, wanted: str | None) -> str:
    """The address for HTTPS beside that for HTTP; empty: none. Raises InvalidInput.

    `before` is the present one. `wanted` is as `Router.listen_on` takes it.
    """
    address, port = parse_listen(plain)
    if wanted is None:
        chosen = before
    elif wanted == OFF:
        chosen = ""
    elif wanted == AUTO:
        # as 443 is to 80, so 8443 is to 8080
        chosen = before or f"{address}:{port + HTTPS - HTTP}"
    else:
        parse_listen(wanted)
        chosen = wanted
    if chosen and parse_listen(chosen)[1] == port:
        raise InvalidInput(
            f"HTTP and HTTPS cannot share port {port}.",
            hint=f"For example `gatling up --listen 127.0.0.1:{port} --tls 127.0.0.1:8443`.",
        )
    return chosen


def url(scheme: str, host: str, listen: str) -> str:
    """The address at which browsers reach a host."""
    port = parse_listen(listen)[1]
    usual = port == (HTTPS if scheme == "https" else HTTP)
    return f"{scheme}://{names.host(host)}" + ("" if usual else f":{port}")


def nginx() -> list[str]:
    """The program; Debian puts it where users' PATH does not look."""
    return [shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin") or "nginx"]


def built() -> Features:
    """The features of the installed nginx; raises MissingProgram."""
    return features.read(process.run([*nginx(), "-V"], timeout=30).text)


def need_tls() -> None:
    """Raise InvalidInput for an nginx without HTTPS."""
    if not built().tls:
        raise InvalidInput(
            f"{nginx()[0]} was built without its module for HTTPS (http_ssl_module).",
            hint="Debian's packages have it: `sudo apt install nginx-light`.",
        )
