"""HTTPS: handshakes and requests per second through Gatling's nginx and through a plain one.

    python bench/tls.py [--rounds 5] [--seconds 4]

In turn, with the same certificate and the same app behind both: new connections with a full TLS 1.3
handshake and one request each, and requests over 20 kept connections with HTTP/1.1 and with HTTP/2.
The client is h2load, which Debian's package nghttp2-client has. The app is another nginx that
returns a text. The plain nginx has a server block with the certificate, a proxy_pass and kept
connections to the app.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.ca import unpacked
from tests.proxy.authority import INTERMEDIATE, certificate
from tests.proxy.bench import NGINX, Bench, free_port

from gatling.proxy import certificates, x509
from gatling.proxy.route import point_at
from gatling.proxy.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "shop.example"
AT_ONCE = 100
KEPT = 900
"""Requests of a connection: nginx closes one after 1,000 (keepalive_requests)."""
COMMON = """\
{user}
worker_processes auto;
pid {root}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
{servers}}}
"""
APP = """\
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{ default_type text/plain; return 200 "hello"; }}
    }}
"""
PLAIN = """\
    upstream app {{ server 127.0.0.1:{app}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        server_name {host};
        keepalive_requests 1000000;
        ssl_certificate {kept}/chain.pem;
        ssl_certificate_key {kept}/key.pem;
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
"""  # noqa: E501


@contextlib.contextmanager
def nginx(root: Path, servers: str) -> Iterator[None]:
    """An nginx with these server blocks."""
    root.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (root / "nginx.conf").write_text(COMMON.format(root=root, user=user, servers=servers))
    argv = [NGINX, "-p", str(root), "-c", str(root / "nginx.conf"), "-g", "daemon off;"]
    with subprocess.Popen(argv) as process:
        time.sleep(0.5)
        try:
            yield
        finally:
            process.terminate()


def load(port: int, *options: str) -> str:
    """The report of h2load, in which no request failed."""
    h2load, environment = unpacked.program("nghttp2-client", "usr/bin/h2load")
    argv = [
        str(h2load),
        "--threads=1",
        f"--connect-to=127.0.0.1:{port}",
        *options,
        f"https://{HOST}/",
    ]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    failed = re.search(r"requests: .* (\d+) failed, (\d+) errored", done.stdout)
    other = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    if not failed or not other or any(map(int, (*failed.groups(), *other.groups()))):
        raise SystemExit(f"h2load: {done.stdout}{done.stderr}")
    return done.stdout


def handshakes(port: int, seconds: int) -> float:
    """New connections per second, with a full handshake and one request each."""
    count, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        load(port, "--h1", f"--clients={AT_ONCE}", f"--requests={AT_ONCE}")
        count += AT_ONCE
    return count / (time.monotonic() - began)


def requests(port: int, seconds: int, *options: str) -> float:
    """Requests per second over kept connections."""
    count, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        load(port, "--clients=20", f"--requests={20 * KEPT}", *options)
        count += 20 * KEPT
    return count / (time.monotonic() - began)


def measure(root: Path, rounds: int, seconds: int) -> None:
    """Both in turn, and the median of each with its spread."""
    app, plain = free_port(), free_port()
    pair = x509.read((certificate(HOST, by=INTERMEDIATE).both + INTERMEDIATE.pem).encode(),
                     time.time())  # fmt: skip
    certificates.add(root / "kept", "shop", pair.certificate, pair.chain, pair.key)
    kept = root / "kept/shop" / pair.certificate.id
    (root / "gatling").mkdir()
    ours = Bench(root / "gatling", tls=True)
    point_at(root / "gatling/shop", 1, mode=0o755)
    site = Site("shop", (HOST,), {1: app, 2: app}, root / "gatling/shop",
                certificates={HOST: kept})  # fmt: skip
    ours.configure([site])
    servers = PLAIN.format(app=app, port=plain, host=HOST, kept=kept)
    results: dict[str, list[float]] = {}
    with (
        nginx(root / "app", APP.format(port=app)), nginx(root / "plain", servers), ours.running()
    ):  # fmt: skip
        for _ in range(rounds):
            for name, port in (("gatling", ours.tls_port), ("plain", plain)):
                for what, value in (
                    ("handshakes", handshakes(port, seconds)),
                    ("requests, HTTP/1.1", requests(port, seconds, "--h1")),
                    ("requests, HTTP/2", requests(port, seconds)),
                ):
                    results.setdefault(f"{what}, {name}", []).append(value)
    for what in sorted(results):
        values = results[what]
        print(f"{what:32} {statistics.median(values):8.0f} per second"
              f" ({min(values):.0f} … {max(values):.0f})")  # fmt: skip


def main() -> None:
    """Measure, and print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gt-tls-") as root:
        measure(Path(root), given.rounds, given.seconds)


if __name__ == "__main__":
    main()
