"""ACME with a real CA, pebble, whose challenges a real nginx answers."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest
from msgspec import structs

from gatling.errors import CertificateFailed, InvalidInput
from gatling.proxy import authority, requests
from gatling.proxy.authority import Authority, Binding, checked_directory, new_key
from gatling.proxy.challenges import HttpChallenge
from gatling.state.issuance import Account
from tests.ca import pebble
from tests.ca.front import serving
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate
from tests.proxy.bench import Bench, free_port, has_ipv6, over_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.proxy.x509 import Pair
    from tests.ca.pebble import Pebble

NAMES = ("shop.example", "www.shop.example")
ADDRESS, ADDRESS_6 = "127.0.0.1", "::1"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    names = (*NAMES, pebble.BLOCKED, ADDRESS, ADDRESS_6)
    change = over_ipv6 if has_ipv6() else str
    with serving(tmp_path_factory.mktemp("nginx"), *names, change=change) as bench:
        yield bench


@pytest.fixture(scope="module")
def ca(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble.running(tmp_path_factory.mktemp("ca"), bench.port) as made:
        yield made


@pytest.fixture(scope="module")
def account(ca: Pebble) -> Account:
    made = Account(email="ops@shop.example", directory=ca.directory, key=new_key(), uri="",
                   profile="default", trusted=ROOT.pem)  # fmt: skip
    return structs.replace(made, uri=Authority(made).register(made.email))


@pytest.fixture
def challenge(bench: Bench) -> HttpChallenge:
    return HttpChallenge(bench.root / "challenges")


def test_a_certificate_for_two_names_and_its_renewal(
    account: Account, ca: Pebble, challenge: HttpChallenge, bench: Bench
) -> None:
    began = time.monotonic()
    key, request = requests.new(NAMES)
    chain = Authority(account).certificate(request.decode(), lambda _: challenge)
    seconds = time.monotonic() - began
    pair = requests.answered(chain.encode(), key, NAMES, time.time())
    assert (pair.certificate.names, pair.certificate.key) == (NAMES, "ECDSA P-256")
    assert (pair.certificate.obtained, pair.certificate.alone) == (True, False)
    assert list((bench.root / "challenges").iterdir()) == [], "tokens are removed again"
    assert seconds < 20

    at, again = Authority(account).renewal(chain)
    assert at
    assert at > time.time() + 10 * 86400
    assert again > time.time()
    ca.renew_now(chain)
    at, _ = Authority(account).renewal(chain)
    assert at
    assert at < time.time()
    for _ in range(2):  # the second one replaces what has been replaced
        key, request = requests.new(NAMES)
        renewed = Authority(account).certificate(
            request.decode(), lambda _: challenge, replaces=chain
        )
        requests.answered(renewed.encode(), key, NAMES, time.time())


def test_a_ca_that_has_customers_only(
    bench: Bench, challenge: HttpChallenge, tmp_path: Path
) -> None:
    ((kid, key),) = pebble.CUSTOMERS.items()
    with pebble.running(tmp_path, bench.port, customers=True) as ca:
        made = Account(email="ops@shop.example", directory=ca.directory, key=new_key(), uri="",
                       trusted=ROOT.pem)  # fmt: skip
        with pytest.raises(CertificateFailed, match="only for its own customers") as caught:
            Authority(made).register(made.email)
        assert "--eab-kid KID --eab-key-file FILE" in caught.value.hint
        for binding in (Binding("nobody", key), Binding(kid, "A" * 64)):
            with pytest.raises(CertificateFailed, match="refused") as caught:
                Authority(made).register(made.email, binding)
            assert "Are --eab-kid and the key those" in caught.value.hint
            assert key not in f"{caught.value.what}{caught.value.hint}"
        uri = Authority(made).register(made.email, Binding(kid, key))
        again = Authority(made).register("other@shop.example", Binding(kid, key))
        assert again == uri, "the account of before, with another address"
        _, request = requests.new(NAMES)
        known = Authority(structs.replace(made, uri=uri))
        assert "CERTIFICATE" in known.certificate(request.decode(), lambda _: challenge)


def test_a_profile_of_six_days_and_one_that_the_ca_lacks(
    account: Account, challenge: HttpChallenge
) -> None:
    short = Authority(structs.replace(account, profile="shortlived"))
    short.check_profile()
    key, request = requests.new(NAMES)
    chain = short.certificate(request.decode(), lambda _: challenge)
    assert days(requests.answered(chain.encode(), key, NAMES, time.time())) == 6
    other = Authority(structs.replace(account, profile="tlsclient"))
    with pytest.raises(InvalidInput, match="no profile 'tlsclient'") as caught:
        other.check_profile()
    assert caught.value.hint == "Its profiles: default, shortlived."
    # a profile that the CA has dropped since then: whatever it issues by itself
    chain = other.certificate(request.decode(), lambda _: challenge)
    requests.answered(chain.encode(), key, NAMES, time.time())


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS_6])
def test_a_certificate_for_an_address(
    account: Account, challenge: HttpChallenge, address: str
) -> None:
    if address == ADDRESS_6 and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    names = (NAMES[0], address)
    key, request = requests.new(names)
    chain = Authority(account).certificate(request.decode(), lambda _: challenge)
    pair = requests.answered(chain.encode(), key, names, time.time())
    assert set(pair.certificate.names) == set(names)
    assert days(pair) == 6, "the profile for addresses, where the CA has it"


def days(pair: Pair) -> int:
    return round((pair.certificate.not_after - pair.certificate.not_before) / 86400)


def test_an_account_is_found_again_by_its_key(account: Account) -> None:
    assert Authority(structs.replace(account, uri="")).register("ops@shop.example") == (account.uri)
    again = Authority(structs.replace(account, uri=""))
    assert again.register("new@shop.example") == account.uri
    known = again._network.account
    assert known is not None
    assert known.body.contact == ("mailto:new@shop.example",)


def test_a_forgotten_account_is_known_as_such(account: Account, challenge: HttpChallenge) -> None:
    forgotten = structs.replace(account, uri=account.uri.replace("my-account/", "my-account/9"))
    _, request = requests.new(NAMES)
    with pytest.raises(CertificateFailed) as caught:
        Authority(forgotten).certificate(request.decode(), lambda _: challenge)
    assert caught.value.forgotten


def test_a_name_that_the_ca_refuses(account: Account, challenge: HttpChallenge) -> None:
    _, request = requests.new([pebble.BLOCKED])
    with pytest.raises(CertificateFailed, match=r"CA 127\.0\.0\.1 refused: .*blocked") as caught:
        Authority(account).certificate(request.decode(), lambda _: challenge)
    assert "use another domain" in caught.value.hint
    assert caught.value.domains == (pebble.BLOCKED,)


def test_the_names_that_the_ca_refuses_are_known_among_others(
    account: Account, challenge: HttpChallenge
) -> None:
    _, request = requests.new([NAMES[0], pebble.BLOCKED])
    with pytest.raises(CertificateFailed, match="blocked") as caught:
        Authority(account).certificate(request.decode(), lambda _: challenge)
    assert caught.value.domains == (pebble.BLOCKED,)


def test_answers_that_take_too_long_to_write(
    account: Account, challenge: HttpChallenge, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "PRESENT_SECONDS", -1.0)
    _, request = requests.new(["slow.shop.example"])
    with pytest.raises(CertificateFailed, match="took more than 600 s to write"):
        Authority(account).certificate(request.decode(), lambda _: challenge)
    assert list((bench.root / "challenges").iterdir()) == []


def test_a_challenge_that_nobody_answers(account: Account, bench: Bench) -> None:
    class Nobody(HttpChallenge):
        def present(self, domain: str, token: str, answer: str) -> None:
            super().present(domain, token, f"{answer}x")

    _, request = requests.new(["www.shop.example", "fresh.shop.example"])
    with pytest.raises(
        CertificateFailed, match=r"could not verify .*fresh\.shop\.example: "
    ) as caught:
        Authority(account).certificate(
            request.decode(), lambda _: Nobody(bench.root / "challenges")
        )
    assert "fresh.shop.example" in caught.value.domains
    assert list((bench.root / "challenges").iterdir()) == []


@pytest.mark.parametrize(
    "token",
    ["../../../../etc/cron.d/x", "", "a" * 15, "a" * 129, "a" * 20 + "/", "ä" * 20, "." * 20],
)
def test_a_hostile_token_is_no_file(tmp_path: Path, token: str) -> None:
    challenge = HttpChallenge(tmp_path)
    with pytest.raises(CertificateFailed, match="token"):
        challenge.present("shop.example", token, "x")
    with pytest.raises(CertificateFailed, match="token"):
        challenge.withdraw("shop.example", token)
    assert list(tmp_path.iterdir()) == []


def test_a_ca_that_refuses_many_nonces(
    bench: Bench, challenge: HttpChallenge, tmp_path: Path
) -> None:
    with pebble.running(tmp_path, bench.port, refused_nonces=30) as ca:
        account = Account(email="a@shop.example", directory=ca.directory, key=new_key(), uri="",
                          trusted=ROOT.pem)  # fmt: skip
        authority = Authority(account)
        authority.register(account.email)
        key, request = requests.new(NAMES)
        chain = authority.certificate(request.decode(), lambda _: challenge)
        requests.answered(chain.encode(), key, NAMES, time.time())


def test_a_ca_that_cannot_be_reached_or_trusted(account: Account) -> None:
    gone = structs.replace(account, directory=f"https://127.0.0.1:{free_port()}/dir")
    with pytest.raises(CertificateFailed, match=r"cannot be reached: Connection refused"):
        Authority(gone).register("ops@shop.example")
    nowhere = structs.replace(account, directory="https://ca.invalid/dir")
    with pytest.raises(CertificateFailed, match=r"ca\.invalid cannot be reached: "):
        Authority(nowhere).register("ops@shop.example")
    with pytest.raises(CertificateFailed, match=r"does not trust \(OpenSSL: \w.+\)\.") as caught:
        Authority(structs.replace(account, trusted="")).register("ops@shop.example")
    assert "--ca-file" in caught.value.hint


class Between(http.server.BaseHTTPRequestHandler):
    """Stands before pebble, and answers some requests in its place."""

    ca: ClassVar[str]
    answers: ClassVar[dict[str, tuple[int, dict[str, str], str]]]

    def do_GET(self) -> None:
        self._pass(None)

    def do_HEAD(self) -> None:
        self._pass(None)

    def do_POST(self) -> None:
        self._pass(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass(self, body: bytes | None) -> None:
        own = next(
            (said for path, said in self.answers.items() if self.path.startswith(path)), None
        )
        if own:
            status, headers, text = own[0], own[1], own[2].encode()
        else:
            sent = {name: self.headers[name] for name in ("Host", "Content-Type")
                    if self.headers[name]}  # fmt: skip
            asked = urllib.request.Request(f"{self.ca}{self.path}", body, sent, method=self.command)
            context = ssl.create_default_context(cadata=ROOT.pem)
            try:
                with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
                    status, headers, text = answer.status, dict(answer.headers), answer.read()
            except urllib.error.HTTPError as error:
                status, headers, text = error.code, dict(error.headers), error.read()
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def lying(
    ca: Pebble, tmp_path: Path, answers: dict[str, tuple[int, dict[str, str], str]]
) -> Iterator[str]:
    shown = certificate("127.0.0.1", by=INTERMEDIATE)
    (tmp_path / "chain.pem").write_text(shown.pem + INTERMEDIATE.pem + shown.key_pem)
    handler = type("Handler", (Between,), {"ca": ca.directory.removesuffix("/dir"),
                                           "answers": answers})  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "chain.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/dir"
    finally:
        server.shutdown()
        server.server_close()


PROBLEM = {"Content-Type": "application/problem+json"}
LIMITED = '{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates"}'


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7200"}, 7200),
        ({}, 6 * 3600),
        ({"Retry-After": "soon"}, 6 * 3600),
        ({"Retry-After": "9" * 9}, 7 * 86400),
        ({"Retry-After": "9" * 99}, 7 * 86400),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 7 * 86400),
    ],
)
def test_a_rate_limit_is_heeded(
    ca: Pebble, account: Account, challenge: HttpChallenge, tmp_path: Path,
    headers: dict[str, str], seconds: float,
) -> None:  # fmt: skip
    with lying(ca, tmp_path, {"/order-plz": (429, PROBLEM | headers, LIMITED)}) as directory:
        account = structs.replace(account, directory=directory, uri="")
        authority = Authority(account)
        authority.register("ops@shop.example")
        _, request = requests.new(NAMES)
        with pytest.raises(CertificateFailed, match="too many certificates") as caught:
            authority.certificate(request.decode(), lambda _: challenge)
    assert abs(caught.value.retry_at - time.time() - seconds) < 30


def test_a_ca_can_verify_only_what_was_asked_for(
    ca: Pebble, account: Account, challenge: HttpChallenge, bench: Bench, tmp_path: Path
) -> None:
    body = {"identifier": {"type": "dns", "value": "other.example"}, "status": "pending",
            "challenges": []}  # fmt: skip
    headers = {"Content-Type": "application/json", "Replay-Nonce": "bm9uY2U"}
    other = (200, headers, json.dumps(body))
    with lying(ca, tmp_path, {"/authZ/": other}) as directory:
        authority = Authority(structs.replace(account, directory=directory, uri=""))
        authority.register("ops@shop.example")
        _, request = requests.new(["fresh2.shop.example"])
        with pytest.raises(CertificateFailed, match=r"other\.example, which was not asked for"):
            authority.certificate(request.decode(), lambda _: challenge)
    assert list((bench.root / "challenges").iterdir()) == []


@pytest.mark.parametrize(
    "answers",
    [
        {"/dir": (200, {"Content-Type": "text/html"}, "<h1>Welcome to nginx!</h1>")},
        {"/dir": (200, {"Content-Type": "application/json"}, "[]")},
        {"/dir": (200, {"Content-Type": "application/json"}, "{}")},
        {"/dir": (503, {}, "busy")},
        {"/order-plz": (201, {"Content-Type": "application/json"}, "{}")},
        {"/order-plz": (500, {}, "\x1b[31mno")},
        {"/authZ/": (200, {"Content-Type": "application/json"}, '{"identifier": 7}')},
        {"/certZ/": (200, {"Content-Type": "application/json"}, "no certificate")},
        {
            "/my-order/": (
                200,
                {"Content-Type": "application/json", "Retry-After": "9" * 12},
                '{"status": "processing"}',
            )
        },
    ],
)
def test_an_answer_that_is_none_names_the_ca(
    ca: Pebble, account: Account, challenge: HttpChallenge, tmp_path: Path,
    answers: dict[str, tuple[int, dict[str, str], str]],
) -> None:  # fmt: skip
    def obtain(directory: str) -> None:
        authority = Authority(structs.replace(account, directory=directory, uri=""))
        authority.register("ops@shop.example")
        key, request = requests.new(NAMES)
        chain = authority.certificate(request.decode(), lambda _: challenge)
        requests.answered(chain.encode(), key, NAMES, time.time())

    with (
        lying(ca, tmp_path, answers) as directory,
        pytest.raises((CertificateFailed, InvalidInput)) as caught,
    ):
        obtain(directory)
    said = caught.value.what
    assert "CA 127.0.0.1 " in said or said == "No certificate came along."
    assert "\n" not in said


def test_what_a_ca_may_answer_for_a_key() -> None:
    key, _ = requests.new(NAMES)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    mine = load_pem_private_key(key, None)
    good = certificate(*NAMES, by=INTERMEDIATE, key=mine)
    chain = (good.pem + INTERMEDIATE.pem).encode()
    assert requests.answered(chain, key, NAMES, time.time()).certificate.obtained
    for bad, said in (
        (chain + key, "a private key"),
        (good.pem.encode(), "without the certificate of its issuer"),
        ((certificate(NAMES[0], by=INTERMEDIATE, key=mine).pem + INTERMEDIATE.pem).encode(),
         "not for www.shop.example"),
        ((certificate(*NAMES, by=INTERMEDIATE).pem + INTERMEDIATE.pem).encode(), "not belong"),
        ((certificate(*NAMES, by=INTERMEDIATE, key=mine, days=(-9, -1)).pem
          + INTERMEDIATE.pem).encode(), "expired"),
        (certificate(*NAMES, key=mine).pem.encode(), "without the certificate of its issuer"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=said):
            requests.answered(bad, key, NAMES, time.time())


@pytest.mark.parametrize("url", ["", "http://ca.example/dir", "https://", "file:///etc", "ca"])
def test_a_directory_is_read_over_https_only(url: str) -> None:
    with pytest.raises(InvalidInput):
        checked_directory(url)
    assert checked_directory("https://ca.example/dir") == "https://ca.example/dir"


SUBPROBLEMS = """{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "two problems",
"subproblems": [
 {"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "forbidden by policy",
  "identifier": {"type": "dns", "value": "www.shop.example"}},
 {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA record for shop.example",
  "identifier": {"type": "dns", "value": "other.example"}}]}"""
IN_WORDS = """{"type": "urn:ietf:params:acme:error:caa",
"detail": "Cannot issue for \\"www.shop.example\\": xshop.example. Not shop.example.org."}"""


@pytest.mark.parametrize("problem", [SUBPROBLEMS, IN_WORDS])
def test_names_are_taken_from_an_error_as_a_whole(
    ca: Pebble, account: Account, challenge: HttpChallenge, tmp_path: Path, problem: str
) -> None:
    with lying(ca, tmp_path, {"/order-plz": (403, PROBLEM, problem)}) as directory:
        authority = Authority(structs.replace(account, directory=directory, uri=""))
        authority.register("ops@shop.example")
        _, request = requests.new(NAMES)
        with pytest.raises(CertificateFailed) as caught:
            authority.certificate(request.decode(), lambda _: challenge)
    assert caught.value.domains == ("www.shop.example",)


def test_a_certificate_without_its_authoritys_key_id_has_no_renewal_info(
    account: Account, challenge: HttpChallenge
) -> None:
    _, request = requests.new(NAMES)
    odd = certificate(NAMES[0])
    with pytest.raises(CertificateFailed, match="CA 127"):
        Authority(account).renewal(odd.pem)
    with pytest.raises(CertificateFailed, match="CA 127"):
        Authority(account).certificate(request.decode(), lambda _: challenge, replaces=odd.pem)
