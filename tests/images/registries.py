"""Registries for tests: Debian's docker-registry, with each kind of authentication, and liars."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from gatling.images.http import Login
from gatling.images.reference import Repository
from gatling.images.registry import Registry
from tests.conftest import until
from tests.fetched import unpacked
from tests.proxy.authority import ROOT, certificate
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOGIN = Login("pusher", "secret")
HTPASSWD = "pusher:$2y$05$8whEmkECFxcsqThXJKWEzeWJTtHskp7KuOQh9voBqnXw4Mv42Veza\n"
"""The entry of LOGIN, for the registry."""


@dataclass
class Running:
    """A registry that runs."""

    host: str
    storage: Path
    trusted: Path | None = None

    def repository(self, name: str = "team/shop") -> Repository:
        return Repository(self.host, name)

    def open(
        self, name: str = "team/shop", login: Login | None = None, rights: str = "pull,push"
    ) -> Registry:
        return Registry(self.repository(name), login=login, trusted=self.trusted, rights=rights)


@contextlib.contextmanager
def running(
    place: Path,
    *,
    auth: dict[str, Any] | None = None,
    tls: bool = False,
    removes: bool = True,
    host: str = "",
) -> Iterator[Running]:
    """A registry, on a port of its own unless one is named; its blobs are in `place`."""
    program = unpacked("docker-registry", "bookworm") / "usr/bin/docker-registry"
    place.mkdir(exist_ok=True)
    storage = place / "storage"
    storage.mkdir(exist_ok=True)
    host = host or f"127.0.0.1:{free_port()}"
    http_part: dict[str, Any] = {"addr": host}
    trusted = None
    if tls:
        shown = certificate("127.0.0.1", host.rpartition(":")[0], by=ROOT)
        (place / "tls.pem").write_text(shown.pem)
        (place / "tls.key").write_text(shown.key_pem)
        trusted = place / "root.pem"
        trusted.write_text(ROOT.pem)
        http_part["tls"] = {
            "certificate": str(place / "tls.pem"), "key": str(place / "tls.key")
        }  # fmt: skip
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": removes},
        },
        "http": http_part,
        **({"auth": auth} if auth else {}),
    }  # fmt: skip
    (place / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    log = place / "registry.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program, "serve", str(place / "config.yml")], stdout=output, stderr=output
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://{host}/v2/", timeout=5).close()
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False
            return True

        until(ready, "the registry")
        yield Running(host, storage, trusted)
    finally:
        process.terminate()
        process.wait()


def basic(place: Path) -> dict[str, Any]:
    """Authentication with a password."""
    place.mkdir(exist_ok=True)
    (place / "htpasswd").write_text(HTPASSWD)
    return {"htpasswd": {"realm": "test", "path": str(place / "htpasswd")}}


@contextlib.contextmanager
def tokens(place: Path) -> Iterator[dict[str, Any]]:
    """Authentication with tokens of a server, which knows LOGIN and lets others pull."""
    place.mkdir(exist_ok=True)
    shown = certificate(name="tokens", authority=True)
    (place / "tokens.pem").write_text(shown.pem)

    def answer(asked: Asked) -> Reply:
        question = parse_qsl(urlsplit(asked.path).query)
        wanted = [value.split(":") for key, value in question if key == "scope"]
        pair = base64.b64encode(f"{LOGIN.user}:{LOGIN.password}".encode()).decode()
        given = asked.headers.get("Authorization")
        if given and given != f"Basic {pair}":
            return Reply(401, b'{"errors":[{"message":"wrong password"}]}')
        access = [
            {"type": kind, "name": name,
             "actions": [one for one in actions.split(",") if given or one == "pull"]}
            for kind, name, actions in wanted
        ]  # fmt: skip
        now = int(time.time())
        claims = {"iss": "tests", "sub": "", "aud": "registry", "exp": now + 300, "nbf": now - 9,
                  "iat": now, "jti": "1", "access": access}  # fmt: skip
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(shown.der).decode()]}
        text = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
        assert isinstance(shown.key, ec.EllipticCurvePrivateKey)
        signed = shown.key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(signed)
        signature = _b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return Reply(200, json.dumps({"token": f"{text}.{signature}"}).encode())

    with serving(answer) as server:
        yield {"token": {
            "realm": f"http://{server.host}/token", "service": "registry", "issuer": "tests",
            "rootcertbundle": str(place / "tokens.pem"),
        }}  # fmt: skip


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass
class Asked:
    """A request to a server of a test."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """Its answer; None as a body closes the connection."""

    status: int
    body: bytes | None = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A server of a test, for faults that no real registry can be brought to."""

    host: str
    asked: list[Asked]

    def open(self, name: str = "team/shop", login: Login | None = None) -> Registry:
        return Registry(Repository(self.host, name), login=login)


@contextlib.contextmanager
def serving(answer: Callable[[Asked], Reply]) -> Iterator[Server]:
    """A server with these answers."""
    asked: list[Asked] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            one = Asked(self.command, self.path, dict(self.headers), self.rfile.read(size))
            asked.append(one)
            reply = answer(one)
            if reply.body is None:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(reply.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server(f"127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
