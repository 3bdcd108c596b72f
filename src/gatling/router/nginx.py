"""nginx's configuration as text: pure, the same input gives the same text.

An app's two slots have fixed ports, so the configuration does not change with a deployment. Which
slot is live is told by the name of one file in the app's route directory: `1`, `2` or `down`. nginx
looks for it with each request (`if (-f …)`, a stat of some microseconds), and a rename switches all
requests at once: without a reload no idle client connection is closed and no worker is left behind
with old sockets. See docs/architecture.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RETRY_SECONDS = 10
BODY_LIMIT = "100m"
"""What Phoenix' own upload limits are applied to; nginx' default of 1m surprises everybody."""


MAPS = """\
    map $http_upgrade $gatling_connection { default upgrade; '' close; }
    # whoever ends TLS in front of this proxy on the same machine is believed
    map "$remote_addr $http_x_forwarded_proto" $gatling_scheme {
        default $scheme;
        "127.0.0.1 https" https;
    }
"""


@dataclass(frozen=True, slots=True)
class Site:
    """What the proxy must know of one app; all of it validated."""

    app: str
    domains: tuple[str, ...]
    ports: dict[int, int]
    route: Path


def main_configuration(root: Path, listen: str, sites: Sequence[Site], *, as_root: bool) -> str:
    """The whole nginx.conf of an embedded home; `root` is its nginx directory."""
    blocks = "\n".join(server_block(site, (listen,), root / "pages") for site in sites)
    return f"""\
# Written by Gatling; what you add to {root}/conf.d/*.conf is included below.
{"user root;" if as_root else "# no user directive: nginx runs as the user who started it"}
worker_processes auto;
pid "{root}/nginx.pid";
error_log "{root}/error.log" warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    default_type application/octet-stream;
    server_tokens off;
    access_log off;
    client_body_temp_path "{root}/temporary/body";
    proxy_temp_path "{root}/temporary/proxy";
    fastcgi_temp_path "{root}/temporary/fastcgi";
    uwsgi_temp_path "{root}/temporary/uwsgi";
    scgi_temp_path "{root}/temporary/scgi";
    server_names_hash_bucket_size 512;
    server_names_hash_max_size 4096;
    keepalive_timeout 75s;
{MAPS}    include "{root}/conf.d/*.conf";

    server {{
        listen {listen} default_server;
        server_name _;
        root "{root}/pages";
        error_page 404 /unknown-host.html;
        location = /unknown-host.html {{ internal; default_type text/html; }}
        location / {{ return 404; }}
    }}
{blocks}}}
"""


def server_block(site: Site, listen: Sequence[str], pages: Path, include: str = "") -> str:
    """The server block of one app; `include` names files of the operator's own, if any."""
    listens = " ".join(f"listen {address};" for address in listen)
    snippets = f'\n        include "{include}";' if include else ""
    # A connection of its own for each request to the instance (no upstream keep-alive): the open
    # ones then are the requests and sockets under way, which is what a drain has to wait for.
    return f"""
    server {{
        {listens}
        server_name {" ".join(site.domains)};
        client_max_body_size {BODY_LIMIT};
        root "{pages}";{snippets}

        set $gatling_port {site.ports[1]};
        if (-f "{site.route}/2") {{ set $gatling_port {site.ports[2]}; }}
        set $gatling_down "";
        if (-f "{site.route}/down") {{ set $gatling_down 1; }}

        error_page 502 =503 /.gatling/down;
        error_page 503 /.gatling/down;
        location = /.gatling/down {{
            internal;
            default_type text/html;
            add_header Retry-After {RETRY_SECONDS} always;
            add_header Cache-Control no-store always;
            rewrite ^ /down.html break;
        }}
        location / {{
            if ($gatling_down) {{ return 503; }}
            proxy_pass http://127.0.0.1:$gatling_port;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $gatling_connection;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $gatling_scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Request-Id $request_id;
            proxy_connect_timeout 5s;
            proxy_send_timeout 60s;
            proxy_read_timeout 120s;
            proxy_buffering off;
        }}
    }}
"""


def page(title: str, text: str) -> str:
    """A small page of Gatling's own."""
    return f"""\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:18vh auto;padding:0 1rem;\
color:#222;background:#fafafa}}h1{{font-size:1.5rem}}\
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}}}</style>
</head>
<body><h1>{title}</h1><p>{text}</p></body>
</html>
"""


PAGES = {
    "down.html": page("This app is not running", "It may be back in a moment. Please try again."),
    "unknown-host.html": page("No app here", "This server has no app for the host you asked for."),
}
