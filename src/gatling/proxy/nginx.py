"""nginx's configuration as text: pure, the same input gives the same text.

An app's two slots have fixed ports, so the configuration does not change with a deployment. The
name of one file in the app's route directory gives the live slot: `1`, `2` or `down`. nginx looks
for it with each request (`if (-f …)`, a stat of some microseconds), and a rename switches all
requests at once: without a reload no idle client connection is closed and no worker is left behind
with old sockets. See docs/architecture.md. Two more entries there are for nginx:
`maintenance.html`, whose presence switches maintenance on and which is the page that is shown then;
and `static`, the fingerprinted assets of the live and of earlier releases.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gatling import names
from gatling.project import headers
from gatling.project.proxy import EVERYWHERE, Passwords, redirects
from gatling.proxy import tls
from gatling.proxy.log_rotation import LOG
from gatling.proxy.parts import (
    CONNECTION,
    CONNECTIONS,
    FRONT,
    MAPS,
    Limits,
    limits,
    request_log,
)
from gatling.releases.static import DIGESTED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.proxy.site import Listen, Site

RETRY_SECONDS = 10
MAINTENANCE_RETRY_SECONDS = 60
TYPES = """\
            types {
                text/css css; text/javascript js mjs; application/json json map webmanifest;
                text/html html; text/plain txt; application/xml xml; application/pdf pdf;
                image/svg+xml svg; image/png png; image/jpeg jpg jpeg; image/gif gif;
                image/webp webp; image/avif avif; image/x-icon ico; application/wasm wasm;
                font/woff woff; font/woff2 woff2; font/ttf ttf; font/otf otf;
                video/mp4 mp4; video/webm webm; audio/mpeg mp3; audio/ogg ogg;
            }
"""


def main_configuration(root: Path, listen: Listen, sites: Sequence[Site], *, as_root: bool) -> str:
    """The whole nginx.conf of an embedded home; `root` is its nginx directory."""
    share = limits(CONNECTIONS)
    listen = tls.with_addresses(listen, sites)
    blocks = "\n".join(
        server_blocks(site, listen, root / "pages", root / "auth", share) for site in sites
    )
    return f"""\
# Written by Gatling; what you add to {root}/conf.d/*.conf is included below.
{"user root;" if as_root else "# no user directive: nginx runs as the user who started it"}
worker_processes auto;
pid "{root}/nginx.pid";
error_log stderr warn;
worker_rlimit_nofile 16384;
events {{ worker_connections {CONNECTIONS}; }}
http {{
    default_type application/octet-stream;
    server_tokens off;
    client_body_temp_path "{root}/temporary/body";
    proxy_temp_path "{root}/temporary/proxy";
    fastcgi_temp_path "{root}/temporary/fastcgi";
    uwsgi_temp_path "{root}/temporary/uwsgi";
    scgi_temp_path "{root}/temporary/scgi";
    server_names_hash_bucket_size 512;
    server_names_hash_max_size 4096;
    keepalive_timeout 75s;
{MAPS}{request_log(root / LOG)}    include "{root}/conf.d/*.conf";
{default_server(listen, root / "pages")}{tls.default_servers(listen, sites)}{blocks}}}
"""


def default_server(listen: Listen, pages: Path) -> str:
    """The block that answers requests for hosts of no app."""
    listens = " ".join(f"listen {address} default_server;" for address in listen.plain)
    return f"""
    server {{
        {listens}
        server_name _;
{CONNECTION}        root "{pages}";
        error_page 404 /unknown-host.html;
        location = /unknown-host.html {{ internal; default_type text/html; }}
        location / {{ return 404; }}
    }}
"""


def server_blocks(
    site: Site,
    listen: Listen,
    pages: Path,
    auth: Path,
    share: Limits,
    include: str = "",
) -> str:
    """The server blocks of one app; `include` names files of the operator's own, if any.

    Domains that redirect have one each. All others share one as far as they share a certificate and
    passwords (files in `auth`).
    """
    elsewhere = redirects(site.domains, site.wishes.options.redirect_www)
    groups: dict[tuple[str, Path | None], list[str]] = {}
    for domain in site.domains:
        if domain not in elsewhere:
            file = _password_file(_password_text(site.wishes.passwords, domain))
            groups.setdefault((file, site.certificates.get(domain)), []).append(domain)
    snippets = f'\n        include "{include}";' if include else ""
    blocks = [
        _server(
            site,
            listen,
            pages,
            " ".join(map(names.host, domains)),
            f"{auth}/{site.app}/{file}" if file else "",
            certificate,
            share,
            snippets,
        )
        for (file, certificate), domains in groups.items()
    ]
    blocks += [
        _redirecting_server(site, listen, domain, target, snippets, share)
        for domain, target in elsewhere.items()
    ]
    return "".join(blocks)


def password_files(site: Site) -> dict[str, str]:
    """The files with the passwords of an app, by name: in directory APP of what is `auth` above."""
    texts = {_password_text(site.wishes.passwords, domain) for domain in site.domains}
    return {_password_file(text): text for text in sorted(texts) if text}


def _password_text(passwords: Passwords, domain: str) -> str:
    """The users of a domain, as nginx reads them; empty: everybody, without a password."""
    users = passwords.get(EVERYWHERE, {}) | passwords.get(domain, {})
    return "".join(f"{user}:{hashed}\n" for user, hashed in sorted(users.items()))


def _password_file(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32] if text else ""


def _server(
    site: Site,
    listen: Listen,
    pages: Path,
    server_names: str,
    passwords: str,
    certificate: Path | None,
    share: Limits,
    snippets: str,
) -> str:
    """The block of domains that serve."""
    wishes = site.wishes.options
    own = _own_headers(site, 8)
    values = tls.hsts(site) + tls.alternative(site, listen, certificate)
    to_https = tls.to_https(site, listen, certificate)
    guard = ""
    if passwords:
        guard = (
            f'\n        auth_basic "{site.app}";\n        auth_basic_user_file "{passwords}";'
            # a wrong password costs nginx as much processor time as a right one
            "\n        limit_req zone=gatling_passwords burst=100 nodelay;"
            "\n        limit_req_status 429;"
        )
    return rf"""
    server {{
        {tls.listens(site, listen, certificate)}
        server_name {server_names};
        client_max_body_size {wishes.body_limit};
{CONNECTION}{FRONT}        limit_conn gatling_apps {share.app};
        limit_conn gatling_clients {share.client};
        limit_conn_status 429;
        root "{pages}";{snippets}{guard}
{own}
{tls.challenge(site, share)}{values}        set $gatling_app {site.app};
        set $gatling_port {site.ports[1]};
        if (-f "{site.route}/2") {{ set $gatling_port {site.ports[2]}; }}
        set $gatling_down "";
        set $gatling_pages "{pages}";
        set $gatling_page down.html;
        set $gatling_retry {RETRY_SECONDS};
        if (-f "{site.route}/down") {{ set $gatling_down down; }}
        if (-f "{site.route}/maintenance.html") {{
            set $gatling_down maintenance;
            set $gatling_pages "{site.route}";
            set $gatling_page maintenance.html;
            set $gatling_retry {MAINTENANCE_RETRY_SECONDS};
        }}

        error_page 429 /.gatling/busy;
        error_page 502 = @gatling_failed;
        error_page 503 /.gatling/down;
        error_page 504 /.gatling/slow;
        location @gatling_failed {{
            recursive_error_pages on;
            error_page 502 /.gatling/failed;
            error_page 503 /.gatling/down;
            if ($gatling_refused) {{ return 503; }}
            return 502;
        }}
        location ~ "^/\.gatling/(?<gatling_own_page>busy|failed|slow)$" {{
            internal;
            auth_basic off;
            default_type text/html;
            add_header Cache-Control no-store always;
{_own_headers(site, 12)}            rewrite ^ /$gatling_own_page.html break;
        }}
        location = /.gatling/down {{
            internal;
            auth_basic off;
            root $gatling_pages;
            disable_symlinks on from=$gatling_pages;
            default_type text/html;
            add_header Retry-After $gatling_retry always;
            add_header Cache-Control no-store always;
{_own_headers(site, 12)}            rewrite ^ /$gatling_page break;
        }}
        location / {{
{to_https}{_proxied(site, guarded=bool(passwords))}        }}
{_static(site, to_https, guarded=bool(passwords)) if wishes.static else ""}    }}
"""


def _redirecting_server(
    site: Site, listen: Listen, domain: str, target: str, snippets: str, share: Limits
) -> str:
    """The block of a domain whose requests go to another; for an hour, should it be taken back."""
    certificate = site.certificates.get(domain)
    values = tls.hsts(site) + tls.alternative(site, listen, certificate)
    goal = site.certificates.get(target)
    port = listen.plain[0].rpartition(":")[2]
    secured = listen.tls_suffix if goal else ""
    scheme, shown, suffix = "$gatling_scheme", "", ""
    if tls.to_https(site, listen, goal):
        scheme, suffix = "https", secured
    elif port != "80" or secured:
        suffix = "$gatling_shown"
        plain, secured = f":{port}" if port != "80" else '""', secured or '""'
        shown = (
            f"\n            set $gatling_shown {plain};"
            f"\n            if ($gatling_scheme = https) {{ set $gatling_shown {secured}; }}"
        )
    return f"""
    server {{
        {tls.listens(site, listen, certificate)}
        server_name {names.host(domain)};
{CONNECTION.rstrip()}{snippets}
{tls.challenge(site, share)}{values}        location / {{
            add_header Cache-Control max-age=3600 always;
{_own_headers(site, 12)}{shown.removeprefix(chr(10)) + chr(10) if shown else ""}\
            return 308 {scheme}://{names.host(target)}{suffix}$request_uri;
        }}
    }}
"""


def _static(site: Site, to_https: str, *, guarded: bool) -> str:
    """Fingerprinted assets, also of removed releases. Missing files are requested from the app."""
    return f"""\
        location ~ "{DIGESTED}$" {{
{to_https}            if ($gatling_down = maintenance) {{ return 503; }}
            root "{site.route}/static";
            disable_symlinks on from=$document_root;
            gzip_static on;
            gzip_vary on;
            add_header Cache-Control "public, max-age=31536000, immutable";
{_own_headers(site, 12)}            default_type application/octet-stream;
{TYPES}            try_files $gatling_file @gatling_app;
        }}
        location @gatling_app {{
{to_https}{_proxied(site, guarded=guarded)}        }}
"""


def _proxied(site: Site, *, guarded: bool) -> str:
    """Return the directives that pass a request on to the app, without nginx's own password.

    A connection of its own for each (no upstream keep-alive): the open ones then are the requests
    and sockets under way, which is what a drain has to wait for.
    """
    wishes = site.wishes.options
    hidden = "".join(
        f"            proxy_hide_header {name};\n" for name, _ in headers.parse(wishes.headers)
    )
    hidden += '            proxy_set_header Authorization "";\n' * guarded
    if wishes.hsts:
        hidden += f"            proxy_hide_header {tls.HSTS};\n"
    # an app that answered a CA would get certificates for every domain that leads to it
    refused = "            if ($gatling_challenged) { return 404; }\n" if site.challenges else ""
    return f"""\
{refused}            if ($gatling_down) {{ return 503; }}
            proxy_pass http://127.0.0.1:$gatling_port;
            proxy_http_version 1.1;
            proxy_set_header Host $host$gatling_named_port;
            proxy_set_header Upgrade $gatling_upgrade;
            proxy_set_header Connection $gatling_connection;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $gatling_scheme;
            proxy_set_header X-Forwarded-Host $host$gatling_named_port;
            proxy_set_header X-Forwarded-Port $gatling_forwarded_port;
            proxy_set_header X-Request-Id $request_id;
            recursive_error_pages on;
            proxy_connect_timeout 5s;
            proxy_send_timeout {wishes.send_timeout}s;
            proxy_read_timeout {wishes.read_timeout}s;
            proxy_buffering {"on" if wishes.buffering else "off"};
            proxy_request_buffering off;
            proxy_buffer_size 32k;
            proxy_buffers 8 32k;
            proxy_busy_buffers_size 64k;
{hidden}"""


def _own_headers(site: Site, indent: int) -> str:
    """The headers that every answer has; a block with others must say them once more."""
    space = " " * indent
    own = "".join(
        f'{space}add_header {name} "{_quoted(value)}" always;\n'
        for name, value in headers.parse(site.wishes.options.headers)
    )
    hsts = f"{space}add_header {tls.HSTS} $gatling_hsts always;\n"
    alternative = f"{space}add_header {tls.ALTERNATIVE} $gatling_alternative always;\n"
    options = site.wishes.options
    return own + (hsts if options.hsts else "") + (alternative if options.http3 else "")


def _quoted(value: str) -> str:
    return value.replace('"', '\\"')
