"""nginx's configuration as text: pure, the same input gives the same text.

An app's two slots have fixed ports, so the configuration does not change with a deployment. Which
slot is live is told by the name of one file in the app's route directory: `1`, `2` or `down`. nginx
looks for it with each request (`if (-f …)`, a stat of some microseconds), and a rename switches all
requests at once: without a reload no idle client connection is closed and no worker is left behind
with old sockets. See docs/architecture.md. Two more things there are for nginx: `maintenance.html`,
whose presence switches maintenance on and which is the page that is shown then; and `static`, the
digested files of the live and of earlier releases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatling.project import headers
from gatling.project.proxy import EVERYWHERE, Passwords, Wishes, redirects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RETRY_SECONDS = 10
MAINTENANCE_RETRY_SECONDS = 60
DIGESTED = r"-[0-9a-f]{32}(\.[A-Za-z0-9]{1,16})?"
"""How the name of a file ends whose text never changes: `mix phx.digest` puts its MD5 there."""

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

MAPS = """\
    map $http_upgrade $gatling_connection { default upgrade; '' close; }
    # whoever ends TLS in front of this proxy on the same machine is believed
    map "$remote_addr $http_x_forwarded_proto" $gatling_scheme {
        default $scheme;
        "127.0.0.1 https" https;
    }
    # the path as a file's, where a file may be the answer
    map $request_method $gatling_file { default /.gatling/none; GET $uri; HEAD $uri; }
"""


@dataclass(frozen=True, slots=True)
class Site:
    """What the proxy must know of one app; all of it validated."""

    app: str
    domains: tuple[str, ...]
    ports: dict[int, int]
    route: Path
    wishes: Wishes = field(default_factory=Wishes)


def main_configuration(root: Path, listen: str, sites: Sequence[Site], *, as_root: bool) -> str:
    """The whole nginx.conf of an embedded home; `root` is its nginx directory."""
    blocks = "\n".join(
        server_blocks(site, (listen,), root / "pages", root / "auth") for site in sites
    )
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


def server_blocks(
    site: Site, listen: Sequence[str], pages: Path, auth: Path, include: str = ""
) -> str:
    """The server blocks of one app; `include` names files of the operator's own, if any.

    Domains that redirect, and those with passwords of their own (files in `auth`), have one each.
    """
    elsewhere = redirects(site.domains, site.wishes.options.redirect_www)
    by_file: dict[str, list[str]] = {}
    for domain in site.domains:
        if domain not in elsewhere:
            by_file.setdefault(_password_file(site.wishes.passwords, domain), []).append(domain)
    snippets = f'\n        include "{include}";' if include else ""
    blocks = [
        _server(
            site, listen, pages, " ".join(domains), f"{auth}/{site.app}/{file}" if file else "",
            snippets,
        )
        for file, domains in by_file.items()
    ]  # fmt: skip
    blocks += [
        _redirecting_server(site, listen, domain, target, snippets)
        for domain, target in elsewhere.items()
    ]
    return "".join(blocks)


def password_files(site: Site) -> dict[str, str]:
    """The files with the passwords of an app, by name: in directory APP of what is `auth` above."""
    everywhere = site.wishes.passwords.get(EVERYWHERE, {})
    found = {}
    for domain in site.domains:
        name = _password_file(site.wishes.passwords, domain)
        if name:
            users = everywhere | site.wishes.passwords.get(domain, {})
            found[name] = "".join(f"{user}:{hashed}\n" for user, hashed in sorted(users.items()))
    return found


def _password_file(passwords: Passwords, domain: str) -> str:
    """The name of the file with the passwords for a domain: no domain has a `_`. Empty: none."""
    if domain in passwords:
        return domain.replace("*", "_")
    return "_" if EVERYWHERE in passwords else ""


def _server(
    site: Site, listen: Sequence[str], pages: Path, names: str, passwords: str, snippets: str
) -> str:
    """The block of domains that serve."""
    wishes = site.wishes.options
    listens = " ".join(f"listen {address};" for address in listen)
    own = _own_headers(site, 8)
    guard = ""
    if passwords:
        guard = f'\n        auth_basic "{site.app}";\n        auth_basic_user_file "{passwords}";'
    return f"""
    server {{
        {listens}
        server_name {names};
        client_max_body_size {wishes.body_limit};
        root "{pages}";{snippets}{guard}
{own}
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

        error_page 502 =503 /.gatling/down;
        error_page 503 /.gatling/down;
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
{_proxied(site, guarded=bool(passwords))}        }}
{_static(site, guarded=bool(passwords)) if wishes.static else ""}    }}
"""


def _redirecting_server(
    site: Site, listen: Sequence[str], domain: str, target: str, snippets: str
) -> str:
    """The block of a domain whose requests go to another; for an hour, should it be taken back."""
    listens = " ".join(f"listen {address};" for address in listen)
    port = listen[0].rpartition(":")[2]
    scheme, shown = "$gatling_scheme", ""
    if site.wishes.options.https == "redirect":
        scheme = "https"
    elif port != "80":
        shown = (
            f"\n            set $gatling_shown :{port};"
            '\n            if ($gatling_scheme = https) { set $gatling_shown ""; }'
        )
    return f"""
    server {{
        {listens}
        server_name {domain};{snippets}
        location / {{
            add_header Cache-Control max-age=3600 always;
{_own_headers(site, 12)}{shown.removeprefix(chr(10)) + chr(10) if shown else ""}\
            return 308 {scheme}://{target}{"$gatling_shown" if shown else ""}$request_uri;
        }}
    }}
"""


def _static(site: Site, *, guarded: bool) -> str:
    """Digested files, of releases that are gone as well; what is not there is the app's."""
    return f"""\
        location ~ "{DIGESTED}$" {{
{_https(site)}            if ($gatling_down = maintenance) {{ return 503; }}
            root "{site.route}/static";
            disable_symlinks on from=$document_root;
            gzip_static on;
            gzip_vary on;
            add_header Cache-Control "public, max-age=31536000, immutable";
{_own_headers(site, 12)}            default_type application/octet-stream;
{TYPES}            try_files $gatling_file @gatling_app;
        }}
        location @gatling_app {{
{_proxied(site, guarded=guarded)}        }}
"""


def _proxied(site: Site, *, guarded: bool) -> str:
    """What passes a request on to the app; where nginx asked for a password, without that.

    A connection of its own for each (no upstream keep-alive): the open ones then are the requests
    and sockets under way, which is what a drain has to wait for.
    """
    wishes = site.wishes.options
    hidden = "".join(
        f"            proxy_hide_header {name};\n" for name, _ in headers.parse(wishes.headers)
    )
    hidden += '            proxy_set_header Authorization "";\n' * guarded
    return f"""\
{_https(site)}            if ($gatling_down) {{ return 503; }}
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
            proxy_send_timeout {wishes.send_timeout}s;
            proxy_read_timeout {wishes.read_timeout}s;
            proxy_buffering {"on" if wishes.buffering else "off"};
{hidden}"""


def _https(site: Site) -> str:
    """Send browsers to https. The name is the client's where a domain has a `*`: so it is checked.

    In locations, so that those of the operator's own (for ACME, say) are left alone.
    """
    if site.wishes.options.https != "redirect":
        return ""
    return """\
            if ($host ~ "[^a-z0-9._-]") { return 400; }
            if ($gatling_scheme = http) { return 308 https://$host$request_uri; }
"""


def _own_headers(site: Site, indent: int) -> str:
    """The headers that every answer has; a block with others must say them once more."""
    return "".join(
        f'{" " * indent}add_header {name} "{_quoted(value)}" always;\n'
        for name, value in headers.parse(site.wishes.options.headers)
    )


def _quoted(value: str) -> str:
    return value.replace('"', '\\"')


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
