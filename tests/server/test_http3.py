"""HTTP/3 on a whole server: Debian's nginx, and curl on another machine.

Debian 12 has neither, and reports the setting. The rest needs boxes of Debian 13:
`GATLING_BOXES=trixie bin/test tests/server/test_http3.py`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import until
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate
from tests.server.image import SUITE

if TYPE_CHECKING:
    from tests.server.box import Box
    from tests.server.conftest import Boxes
    from tests.server.server import Checkout, Person, Server

DEBIAN_12 = SUITE == "bookworm"
served = pytest.mark.skipif(
    DEBIAN_12, reason="Debian 12 has no HTTP/3: GATLING_BOXES=trixie makes other boxes"
)
HOST = "shop.example"
SEEN = """\
  def call(%{method: "GET", path: "/client"} = request) do
    text(200, Enum.join(Counter.HTTP.values(request.headers, "x-forwarded-for"), "|"))
  end

  def call("""


@pytest.fixture(scope="module")
def client(module_boxes: Boxes) -> Box:
    """Another machine of the same Debian, which trusts the CA."""
    box = module_boxes("client")
    (box.root / "root/ca.pem").write_text(ROOT.pem)
    if " HTTP3" not in box.exec(["curl", "--version"]).stdout:
        pytest.skip("the curl of this Debian has no HTTP/3")
    return box


@pytest.fixture(scope="module")
def shop(ann: Person) -> Checkout:
    """An app with HTTP/3 by its gatling.toml, and a certificate."""
    project = ann.project("shop")
    router = project.directory / "lib/counter/router.ex"
    router.write_text(router.read_text().replace("  def call(", SEEN, 1))
    project.write("gatling.toml", "[proxy]\nhttp3 = true\n")
    project.commit()
    assert ("built without HTTP/3" in project.push()) is DEBIAN_12
    ann.run("domains", "add", "shop", HOST)
    issued = certificate(HOST, by=INTERMEDIATE)
    pem = issued.pem + INTERMEDIATE.pem + issued.key_pem
    ann.run("certificates", "add", "shop", stdin=pem)
    return project


def ask(client: Box, server: Server, path: str, *options: str) -> tuple[dict[str, Any], str]:
    """What curl notes of a request, and the headers and text of the answer."""
    done = client.exec(
        ["curl", "--silent", "--include", "--max-time", "10", "--write-out", "\n%{json}",
         "--cacert", "/root/ca.pem", "--resolve", f"{HOST}:443:{server.box.ip}", *options,
         f"https://{HOST}{path}"],
        check=False,
    )  # fmt: skip
    text, _, noted = done.stdout.rpartition("\n")
    found: dict[str, Any] = json.loads(noted)
    return found, text


@served
def test_a_client_is_served_over_http3(client: Box, server: Server, shop: Checkout) -> None:
    noted, text = ask(client, server, "/client", "--http3-only")
    assert (noted["http_version"], noted["response_code"]) == ("3", 200), noted["errormsg"]
    assert text.splitlines()[-1] == client.ip, "the app knows who asks"


@served
def test_browsers_find_it_by_an_answer_over_http2(
    client: Box, server: Server, shop: Checkout
) -> None:
    noted, text = ask(client, server, "/client", "--http2", "--alt-svc", "/root/known")
    assert (noted["http_version"], noted["response_code"]) == ("2", 200)
    assert 'alt-svc: h3=":443"; ma=3600' in text
    assert text.splitlines()[-1] == client.ip

    def by_http3() -> bool:  # curl takes TCP when QUIC is late
        noted, _ = ask(client, server, "/client", "--alt-svc", "/root/known")
        return bool(noted["http_version"] == "3")

    until(by_http3, "an answer over HTTP/3")


def test_the_check_of_the_server_names_it(server: Server, shop: Checkout) -> None:
    said = server.box.exec(["gatling", "server", "check"], check=False).stdout
    if DEBIAN_12:
        assert "ok    http3: shop: proxy.http3 is not applied." in said
        assert "Debian has the module since version 13" in said
        assert server.get(host="shop.localhost").status == 200, "nothing fails"
    else:
        assert "ok    http3: nginx serves shop over HTTP/3 as well" in said
