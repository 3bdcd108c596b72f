"""Parts of nginx's configuration that all apps share, and which of them may be left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROBER = "gatling-probe"
"""The User-Agent of the prober (deploy/evidence/prober.py)."""
CONNECTIONS = 8192
"""`worker_connections` of an embedded home's nginx."""

MAPS = r"""
    # Websockets only: behind another protocol (h2c) requests would reach the app unseen by nginx.
    map $http_upgrade $gatling_upgrade { default ""; "~*^websocket$" websocket; }
    map $gatling_upgrade $gatling_connection { default upgrade; "" close; }
    # Only a proxy in front of this one on the same machine, which ends TLS, may name the scheme.
    map "$realip_remote_addr $http_x_forwarded_proto" $gatling_scheme {
        default $scheme;
        "127.0.0.1 https" https;
        "::1 https" https;
    }
    # The port in the client's Host header, if that header names the host of the request.
    map "$host $http_host" $gatling_named_port {
        default "";
        "~*^(?<gatling_name>\S+) \k<gatling_name>(?<gatling_digits>:[0-9]{1,5})$" $gatling_digits;
    }
    map "$gatling_scheme$gatling_named_port" $gatling_forwarded_port {
        default $server_port;
        https 443;
        "~:(?<gatling_number>[0-9]+)$" $gatling_number;
    }
    # An upstream that was never connected to is an app that is down; another one failed a request.
    map $upstream_connect_time $gatling_refused { default ""; "-" 1; }
    map $host $gatling_app { default ""; }
    # A token of ACME is base64url (RFC 8555, section 8.3).
    map $uri $gatling_token {
        default "";
        "~^/\.well-known/acme-challenge/(?<gatling_digest>[A-Za-z0-9_-]{16,128})$" $gatling_digest;
    }
    map $uri $gatling_challenged { default ""; "~^/\.well-known/acme-challenge(/|$)" 1; }
    map $remote_addr $gatling_client { default $binary_remote_addr; 127.0.0.1 ""; ::1 ""; }
    map $http_authorization $gatling_guess { default $binary_remote_addr; "" ""; }
    limit_conn_zone $gatling_app zone=gatling_apps:1m;
    limit_conn_zone $gatling_client zone=gatling_clients:4m;
    limit_req_zone $gatling_guess zone=gatling_passwords:4m rate=20r/s;
    # the path as a file's, where a file may be the answer
    map $request_method $gatling_file { default /.gatling/none; GET $uri; HEAD $uri; }
"""[1:]

LINE = "$msec $gatling_app $gatling_port $status $request_time $upstream_header_time"
"""A line in the log of requests, as nginx's `log_format` takes it; figures.py reads it."""


def request_log(log: Path) -> str:
    """Directives of the http block by which nginx writes a line for each request to an app.

    A log of the operator's own at the same level is written as well. Gatling's prober, which asks
    from this machine, is not counted.
    """
    return rf"""
    map $host $gatling_port {{ default ""; }}
    map "$gatling_app $realip_remote_addr $http_user_agent" $gatling_counted {{
        default 1;
        "~^ " "";
        "~^\S+ (127\.0\.0\.1|::1) {PROBER}$" "";
    }}
    log_format gatling_requests "{LINE}";
    access_log "{log}" gatling_requests buffer=64k flush=100ms if=$gatling_counted;
"""[1:]


CONNECTION = """
        large_client_header_buffers 4 32k;
        client_header_timeout 20s;
        client_body_timeout 20s;
"""[1:]
"""The limits on clients' connections in every server block."""

FRONT = """
        set_real_ip_from 127.0.0.1;
        set_real_ip_from ::1;
        real_ip_header X-Forwarded-For;
        real_ip_recursive on;
"""[1:]
"""A proxy in front of this one on the same machine names the client's address; no one else can."""

TLS = """
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
        ssl_ecdh_curve X25519:prime256v1:secp384r1;
        ssl_prefer_server_ciphers off;
        ssl_session_timeout 1d;
        ssl_session_cache shared:gatling_tls:10m;
        ssl_session_tickets off;
"""[1:]
"""How TLS is spoken, in server blocks with a certificate; see nginx.py."""

OPTIONAL = frozenset(
    {
        "server_names_hash_bucket_size", "server_names_hash_max_size",
        "large_client_header_buffers", "client_header_timeout", "client_body_timeout",
        "real_ip_header", "real_ip_recursive", "limit_conn_status", "limit_req_status",
    }
)  # fmt: skip
"""Directives that nginx accepts only once: the operator's own one takes precedence."""

DEFAULT_SERVER = "default_server"
"""Stands for the block that answers unknown hosts, among the parts that can be left out."""
TLS_DEFAULT_SERVER = "tls_default_server"
"""The same for TLS connections."""
HTTP3 = "http3"
"""Stands for HTTP/3, which nothing but one `listen` may set up at an address."""
WITHOUT_HTTP3 = frozenset({HTTP3, TLS_DEFAULT_SERVER})
"""The parts without any of which HTTP/3 is left out, too."""
NOTE = "# Left out, because other files of nginx have it: "


def conflicts(log: Sequence[str]) -> frozenset[str]:
    """The optional parts because of which nginx refused a configuration, by its messages.

    nginx has no other format for them, and does not translate them.
    """
    text = "\n".join(log)
    found = set(re.findall(r'"(\w+)" directive is duplicate', text)) & OPTIONAL
    for address in re.findall(r"duplicate default server for (\S+)", text):
        found |= {TLS_DEFAULT_SERVER if address.endswith(":443") else DEFAULT_SERVER}
    if re.search(r"duplicate listen options for \S+:443\b", text):
        found |= {HTTP3}
    return frozenset(found)


def note(without: frozenset[str]) -> str:
    """A line of a configuration that says which parts it leaves out; empty if it has all."""
    return f"{NOTE}{' '.join(sorted(without))}\n" if without else ""


def noted(text: str) -> frozenset[str]:
    """The parts that a configuration says to leave out."""
    line = next((line for line in text.splitlines() if line.startswith(NOTE)), NOTE)
    return frozenset(line.removeprefix(NOTE).split())


def left_out(text: str, without: frozenset[str]) -> str:
    """The text without the lines of these optional directives."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip().partition(" ")[0] not in without)


class Limits(NamedTuple):
    """How many requests and websockets may be open at the same time."""

    app: int
    """Of one app."""
    client: int
    """Of one client address, for all apps."""


def limits(worker_connections: int) -> Limits:
    """Return the limits of one app and one client, for so many connections of each nginx worker.

    A request takes two: the client's and the app's. They may all come to the same worker, so the
    limit is a share of one worker: three quarters for one app, and half of that for one client.
    """
    app = max(8, worker_connections * 3 // 8)
    return Limits(app, max(4, app // 2))
