"""Registries that fail, lie and change their mind; the names of images."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput, RegistryFailed
from gatling.images import image, layout, reference
from gatling.images.layout import Descriptor, Layout
from gatling.images.reference import Repository
from gatling.images.registry import Registry
from tests.images.registries import LOGIN, Asked, Reply, serving
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = bytes(range(250)) * 40
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which nobody waits for."""
    made: list[float] = []
    monkeypatch.setattr("gatling.images.http.Connection.__init__.__kwdefaults__", {
        "login": None, "trusted": None, "scopes": (), "wait": made.append,
    })  # fmt: skip
    return made


class Fake:
    """A registry that keeps blobs, and spoils some answers: `spoil(request, number)`."""

    def __init__(self, spoil: Callable[[Asked, int], Reply | None]) -> None:
        self.blobs: dict[str, bytes] = {}
        self.upload = b""
        self._spoil = spoil
        self._count = 0

    def __call__(self, asked: Asked) -> Reply:
        self._count += 1
        return self._spoil(asked, self._count) or self._answer(asked)

    def _answer(self, asked: Asked) -> Reply:
        path, _, question = asked.path.partition("?")
        if path.endswith("/blobs/uploads/"):
            self.upload = b""
            return Reply(202, headers={"Location": "/upload/1?state=x"})
        if path == "/upload/1":
            if asked.method == "GET":
                return Reply(204, headers=self._where())
            self.upload += asked.body
            if asked.method == "PATCH":
                return Reply(202, headers=self._where())
            assert "state=x" in question
            digest = question.rpartition("digest=")[2].replace("%3A", ":")
            assert f"sha256:{hashlib.sha256(self.upload).hexdigest()}" == digest
            self.blobs[digest] = self.upload
            return Reply(201)
        digest = path.rpartition("/")[2]
        found = self.blobs.get(digest)
        return Reply(404) if found is None else Reply(200, found)

    def _where(self) -> dict[str, str]:
        return {"Location": "/upload/1?state=x", "Range": f"0-{max(len(self.upload) - 1, 0)}"}


@pytest.fixture
def blob(tmp_path: Path) -> tuple[Descriptor, Path]:
    file = tmp_path / "blob"
    file.write_bytes(DATA)
    return Descriptor(layout.LAYER, DIGEST, len(DATA)), file


@pytest.mark.parametrize("status", [None, 429, 500, 503])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_a_failure_that_passes_is_no_failure(
    blob: tuple[Descriptor, Path], pauses: list[float], status: int | None, method: str
) -> None:
    failed: list[str] = []

    def spoil(asked: Asked, _: int) -> Reply | None:
        if asked.method != method or len(failed) == 2:
            return None
        failed.append(asked.method)
        return Reply(0, None) if status is None else Reply(status, b"", {"Retry-After": "7"})

    fake = Fake(spoil)
    with serving(fake) as server, server.open() as registry:
        assert registry.upload(*blob) == len(DATA)
    assert fake.blobs == {DIGEST: DATA}
    assert pauses == ([0.5, 1] if status is None else [7, 7])


def test_a_part_that_fails_is_sent_again_alone(
    blob: tuple[Descriptor, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatling.images.registry.PART", 3000)
    parts: list[str] = []

    def spoil(asked: Asked, _: int) -> Reply | None:
        if asked.method == "PATCH":
            parts.append(asked.headers["Content-Range"])
            if len(parts) == 2:
                return Reply(0, None)
            if len(parts) == 4:  # the registry has it, and the connection breaks
                fake.upload += asked.body
                return Reply(0, None)
        return None

    fake = Fake(spoil)
    with serving(fake) as server, server.open() as registry:
        registry.upload(*blob)
    assert fake.blobs == {DIGEST: DATA}
    assert parts == ["0-2999", "3000-5999", "3000-5999", "6000-8999", "9000-9999"]


@pytest.mark.parametrize("status", [404, 405])
def test_a_registry_that_takes_no_parts_gets_the_whole(
    blob: tuple[Descriptor, Path], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("gatling.images.registry.PART", 3000)
    fake = Fake(lambda asked, _: Reply(status) if asked.method == "PATCH" else None)
    with serving(fake) as server, server.open() as registry:
        assert registry.upload(*blob) == len(DATA)
    assert fake.blobs == {DIGEST: DATA}


@pytest.mark.parametrize(
    ("reply", "reason", "said"),
    [
        (Reply(403, b'{"errors":[{"code":"DENIED","message":"no right \\u001b[2J"}]}'), "denied",
         r"status 403: no right \\x1b\[2J\."),
        (Reply(413), "full", "status 413"),
        (Reply(507), "full", "status 507"),
        (Reply(503), "busy", "status 503"),
        (Reply(0, None), "unreachable", "cannot be reached"),
        (Reply(202), "malformed", "names no place"),
        (Reply(202, b"", {"Location": "ftp://elsewhere/x"}), "malformed", "a URL that is none"),
        (Reply(202, b"", {"Location": "http://[::1"}), "malformed", "a URL that is none"),
        (Reply(202, b"", {"Location": "http://a:99999/x"}), "malformed", "a URL that is none"),
        (Reply(400, b"[" * 100_000), "refused", "status 400"),
        (Reply(400, b"x" * (5 << 20)), "malformed", "too long"),
    ],
)  # fmt: skip
def test_a_refusal_says_why(
    blob: tuple[Descriptor, Path], reply: Reply, reason: str, said: str
) -> None:
    with (
        serving(Fake(lambda asked, _: reply if asked.method == "POST" else None)) as server,
        server.open() as registry,
        pytest.raises(RegistryFailed, match=said) as caught,
    ):
        registry.upload(*blob)
    assert caught.value.reason == reason


def test_a_registry_that_is_not_there_is_named() -> None:
    with Registry(Repository(f"127.0.0.1:{free_port()}", "shop")) as registry:
        with pytest.raises(RegistryFailed, match="cannot be reached: Connection refused") as caught:
            registry.check()
        assert caught.value.reason == "unreachable"


def test_credentials_stay_with_the_registry(blob: tuple[Descriptor, Path]) -> None:
    """Neither a place for an upload elsewhere nor a redirection of a download gets them."""
    pair = base64.b64encode(f"{LOGIN.user}:{LOGIN.password}".encode()).decode()
    elsewhere = Fake(lambda *_: None)
    elsewhere.blobs["x"] = DATA
    with serving(elsewhere) as other:

        def spoil(asked: Asked, _: int) -> Reply | None:
            if asked.headers.get("Authorization") != f"Basic {pair}":
                return Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
            if asked.method == "POST":
                return Reply(202, b"", {"Location": f"http://{other.host}/upload/1?state=x"})
            if asked.method == "GET":
                return Reply(307, b"", {"Location": f"http://{other.host}/x"})
            return None

        with serving(Fake(spoil)) as server, server.open(login=LOGIN) as registry:
            registry.upload(*blob)
            assert b"".join(registry.blob("x")) == DATA
        assert elsewhere.blobs[DIGEST] == DATA
        assert not [one for one in other.asked if "Authorization" in one.headers]


def test_a_password_of_netrc_is_not_used(
    blob: tuple[Descriptor, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with serving(Fake(lambda *_: None)) as server, server.open() as registry:
        registry.upload(*blob)
        assert not [one for one in server.asked if "Authorization" in one.headers]


def test_redirections_end() -> None:
    answer = Reply(307, b"", {"Location": "/again"})
    with serving(lambda _: answer) as server, server.open() as registry:
        with pytest.raises(RegistryFailed, match="too often"):
            registry.tags()
        assert len(server.asked) == 5


def test_no_redirection_leads_from_https_to_http() -> None:
    registry = Registry(Repository("registry.example.com", "shop"))
    with pytest.raises(RegistryFailed, match="leads from HTTPS to HTTP"):
        registry._http._checked("http://registry.example.com/v2/")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\r\\nX-Evil: 1"}', b"x" * (5 << 20)]
)
def test_a_token_server_that_gives_none_is_refused(body: bytes) -> None:
    with serving(lambda _: Reply(200, body)) as tokens:
        challenge = f'Bearer realm="http://{tokens.host}/t",service="s"'
        answer = Reply(401, b"", {"WWW-Authenticate": challenge})
        with serving(lambda _: answer) as server, server.open() as registry:
            with pytest.raises(RegistryFailed) as caught:
                registry.check()
            assert caught.value.reason == "malformed"


@pytest.mark.parametrize("challenge", ["", "Bearer", "Negotiate", 'Bearer realm="x"', "Basic"])
def test_a_challenge_that_cannot_be_met_is_a_failed_login(challenge: str) -> None:
    answer = Reply(401, b"", {"WWW-Authenticate": challenge})
    with (
        serving(lambda _: answer) as server,
        server.open() as registry,
        pytest.raises(RegistryFailed) as caught,
    ):
        registry.check()
    assert caught.value.reason in {"login", "malformed", "unreachable"}


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"!", b"\0" * len(DATA)])
def test_another_blob_than_was_asked_for_is_not_kept(tmp_path: Path, data: bytes) -> None:
    into = Layout(tmp_path / "images")
    wanted = Descriptor(layout.LAYER, DIGEST, len(DATA))
    assert not into.copy(wanted, iter([data]))
    assert not into.has(wanted)
    assert into.copy(wanted, iter([DATA[:100], DATA[100:]]))
    assert into.path(DIGEST).read_bytes() == DATA


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"[]", b"{}", b'{"config": {"digest": "sha256:../../x", "size": 1}, "layers": []}',
        b'{"config": {"digest": "' + DIGEST.encode() + b'", "size": "1"}, "layers": []}',
        json.dumps({"config": {"digest": DIGEST, "size": 10_000}, "layers": []}).encode(),
        json.dumps({"config": {"digest": DIGEST, "size": 10_000},
                    "layers": [{"mediaType": "text/html", "digest": DIGEST, "size": 1}]}).encode(),
    ],
)  # fmt: skip
def test_a_malformed_base_is_refused(tmp_path: Path, manifest: bytes) -> None:
    def answer(asked: Asked) -> Reply:
        if "/manifests/" in asked.path:
            return Reply(200, manifest, {"Content-Type": layout.MANIFEST})
        return Reply(200, DATA)

    with serving(answer) as server, server.open() as registry:
        named = reference.reference(f"{server.host}/team/shop:1")
        with pytest.raises(RegistryFailed) as caught:
            image.named_base(Layout(tmp_path / "images"), registry, named)
        assert caught.value.reason == "malformed"


def test_tags_come_page_by_page_and_end() -> None:
    def answer(asked: Asked) -> Reply:
        last = int(asked.path.partition("last=")[2] or 0)
        more = {"Link": f'</v2/x/tags/list?last={last + 1}>; rel="next"'}
        return Reply(200, json.dumps({"tags": [f"v{last}"] * 4000}).encode(), more)

    with serving(answer) as server, server.open() as registry:
        assert len(registry.tags()) == 12_000
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("text", "host", "name", "version"),
    [
        ("registry.example.com/shop", "registry.example.com", "shop", "latest"),
        ("registry.example.com:5000/team/shop:v1", "registry.example.com:5000", "team/shop", "v1"),
        ("localhost/a/b-c/d_e:1.2", "localhost", "a/b-c/d_e", "1.2"),
        (f"[::1]:5000/shop@{DIGEST}", "[::1]:5000", "shop", DIGEST),
        (f"a.example/shop:v1@{DIGEST}", "a.example", "shop", DIGEST),
    ],
)
def test_names_of_images(text: str, host: str, name: str, version: str) -> None:
    found = reference.reference(text)
    assert (found.repository.host, found.repository.name, found.version) == (host, name, version)


@pytest.mark.parametrize(
    "text",
    [
        "", "debian", "debian:12", "library/debian", "a.example/", "a.example/UP", "a.example//b",
        "a.example/shop:", "a.example/shop@", "a.example/shop@sha256:12", "a.example/../shop",
        "https://a.example/shop", "user@a.example/shop", "a.example/shop:v1 ", "a.example/shop\n",
        "-a.example/shop", "a.example/" + "x" * 300, "a.example/shop:" + "v" * 200,
    ],
)  # fmt: skip
def test_what_is_no_name_of_an_image(text: str) -> None:
    with pytest.raises(InvalidInput):
        reference.reference(text)


def test_only_a_registry_of_this_machine_has_no_tls() -> None:
    for host, local in {
        "localhost:5000": True, "127.0.0.1:80": True, "[::1]:5000": True,
        "localhost.example.com": False, "127.0.0.1.example.com": False, "10.0.0.1:5000": False,
    }.items():  # fmt: skip
        assert Repository(host, "x").is_local is local, host
