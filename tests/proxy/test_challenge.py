"""A CA's challenge through a real nginx: answered before everything else, and never by an app."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from gatling.project.proxy import Options, Wishes
from gatling.proxy import certificates, parts, x509
from gatling.proxy.published import publish
from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.proxy.authority import INTERMEDIATE, certificate
from tests.proxy.bench import App, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # noqa: S105 (RFC 8555's example)
PATH = f"/.well-known/acme-challenge/{TOKEN}"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
THEIRS = """
location /.well-known/acme-challenge/ { return 200 "an operator's own client"; }
"""


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with contextlib.closing(App()) as made:
        yield made


@pytest.fixture(scope="module")
def bench(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("nginx")
    made = Bench(root, tls=True)
    challenges = root / "challenges"
    challenges.mkdir()
    (challenges / TOKEN).write_text(ANSWER)
    (challenges / "hidden_name_of_a_dotfile").symlink_to("/etc/hostname")
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input="pw\n", capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip
    issued = certificate("tls.example", "www.tls.example", by=INTERMEDIATE)
    pair = x509.read((issued.both + INTERMEDIATE.pem).encode(), time.time())
    certificates.add(root / "kept", "tls", pair.certificate, pair.chain, pair.key)
    place = root / "kept" / "tls" / pair.certificate.id

    def site(name: str, wishes: Wishes | None = None) -> Site:
        domains = (f"{name}.example", f"www.{name}.example", f"*.{name}.example")
        point_at(root / name, 1, mode=0o755)
        places = dict.fromkeys(domains[:2], place) if name == "tls" else {}
        ports = {1: app.port, 2: app.port}
        return Site(name, domains, ports, root / name, wishes or Wishes(), places, challenges)

    sites = [
        site("plain"), site("tls", Wishes(Options(redirect_www="to-apex", hsts=600))),
        site("safe", Wishes(Options(https="redirect"))),
        site("guarded", Wishes(passwords={"*": {"ann": hashed}})), site("down"), site("away"),
        site("theirs"),
    ]  # fmt: skip
    point_at(root / "down", None, mode=0o755)
    publish(root / "away", "<p>Back soon.</p>", [], mode=0o755)

    def with_theirs(text: str) -> str:
        name = "server_name theirs.example www.theirs.example *.theirs.example;"
        assert text.count(name) == 1
        usual = f"limit_conn gatling_apps {parts.limits(parts.CONNECTIONS).app};"
        return text.replace(name, name + THEIRS).replace(usual, "limit_conn gatling_apps 2;")

    made.configure(sites, with_theirs)
    with made.running():
        yield made


@pytest.mark.parametrize("name", ["plain", "tls", "safe", "guarded", "down", "away", "theirs"])
@pytest.mark.parametrize("host", ["", "www.", "a."])
def test_nothing_comes_before_it(bench: Bench, name: str, host: str) -> None:
    status, headers, text = bench.get(PATH, host=f"{host}{name}.example")
    assert (status, text) == (200, ANSWER)
    assert headers["Content-Type"] == "application/octet-stream"
    assert bench.get(f"{PATH}?x=y", host=f"{name}.example")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        PATH[:-1], f"{PATH}x", f"{PATH}/", f"{PATH}.css", "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge", f"/.well-known/acme-challenge/a/../{TOKEN[:-1]}B",
        f"/.well-known/acme-challenge/%2e%2e/acme-challenge/{'x' * 20}", f"/x/..{PATH[:-3]}",
        "/.well-known/acme-challenge/hidden_name_of_a_dotfile",
        f"/.well-known/acme-challenge/app-{'a' * 32}.css",
        f"/.well-known//acme-challenge/{'y' * 40}",
    ],
)  # fmt: skip
def test_no_other_is_answered_by_an_app(bench: Bench, app: App, path: str) -> None:
    before = len(app.requests)
    assert bench.get(path, host="plain.example")[0] in (403, 404)
    assert len(app.requests) == before


def test_other_paths_are_the_app_s(bench: Bench) -> None:
    for path in ("/", "/.well-known/security.txt", "/.well-known/acme-challenges", f"/x{PATH}"):
        assert bench.get(path, host="plain.example")[0] == 200
    assert bench.get("/.gatling/challenge", host="plain.example")[0] == 404


def test_an_operator_s_own_client_goes_on(bench: Bench) -> None:
    _, _, text = bench.get(f"{PATH}x", host="theirs.example")
    assert text == "an operator's own client"


def test_it_is_answered_with_all_connections_of_the_app_in_use(bench: Bench) -> None:
    held = bench.hold(3, host="plain.example", source="127.0.0.3")
    try:
        assert len(held) == 2
        assert bench.get(host="plain.example")[0] == 429
        assert bench.get(PATH, host="plain.example")[0] == 200
    finally:
        for one in held:
            one.close()
