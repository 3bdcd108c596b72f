"""Maintenance, passwords and digested files on a server, where nginx is another user."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import ROOT, until

if TYPE_CHECKING:
    from tests.server.server import Person, Server

OLD, NEW = "1" * 32, "2" * 32


def test_a_projects_say(server: Server) -> None:
    admin = server.admin("pia")
    project = admin.project("say")
    for name in (OLD, NEW):
        project.write(f"priv/static/assets/app-{name}.css", name)
        project.write("pages/away.html", "<h1>away</h1>")
        project.write(
            "gatling.toml",
            '[proxy]\nmaintenance_page = "pages/away.html"\nheaders = "X-Say: \\"a\\"; b"\n'
            f"body_limit = '{name[0]}k'\n",
        )
        project.title(name)
        project.push()
        project.git("rm", "--quiet", "-r", "priv/static")
    host = "say.localhost"
    until(lambda: server.get(host=host).headers["X-Say"] == '"a"; b', "the header")
    assert (
        "client_max_body_size 2k;" in (server.box.root / "etc/nginx/gatling/sites.conf").read_text()
    )
    for name in (OLD, NEW):
        assert server.get(f"/assets/app-{name}.css", host=host).text == name
    admin.run("stop", "say")
    assert server.get(f"/assets/app-{OLD}.css", host=host).text == OLD
    admin.run("start", "say")

    admin.run("auth", "add", "say", "*", "ann", stdin="pw\n")
    until(lambda: server.get(host=host).status == 401, "the question for a password")
    assert asked(server, host, "ann:pw") == 200
    assert asked(server, host, "ann:no") == 401
    files = server.box.exec(
        ["find", "/etc/nginx/gatling/auth", "-type", "f", "-printf", "%u:%g %m %P\n"]
    )
    assert re.fullmatch("root:www-data 640 say/[0-9a-f]{32}\n", files.stdout)

    with_tls(server, admin)

    admin.run("maintenance", "on", "say")
    assert server.get(host=host).status == 503
    assert server.get(host=host).text == "<h1>away</h1>"
    admin.run("maintenance", "off", "say")
    assert asked(server, host, "ann:pw") == 200
    admin.run("unload", "say", "--confirm", "say")
    found = server.box.exec(["find", "/var/lib/gatling", "/etc/nginx/gatling", "-name", "*say*"])
    assert found.stdout == ""


def with_tls(server: Server, admin: Person) -> None:
    """The site that docs/operations.md shows."""
    name, box = "shop.example.com", server.box
    text = (ROOT / "docs/operations.md").read_text()
    site = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)[-1]
    keys = Path("/etc/ssl") / name
    box.exec(["mkdir", str(keys)])
    box.exec(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
         "-keyout", f"{keys}/privkey.pem", "-out", f"{keys}/fullchain.pem"]
    )  # fmt: skip
    (box.root / f"etc/nginx/conf.d/{name}.conf").write_text(site)
    box.exec(["nginx", "-t"])
    box.exec(["systemctl", "reload", "nginx"])
    admin.run("domains", "add", "say", name)

    def get(scheme: str) -> list[str]:
        told = "%{http_code} %{redirect_url} %header{x-say}"
        where = [arg for port in (80, 443) for arg in ("--resolve", f"{name}:{port}:127.0.0.1")]
        words = ["curl", "-sk", "-u", "ann:pw", "-o", "/dev/null", "-w", told, *where]
        return box.exec([*words, f"{scheme}://{name}/"], check=False).stdout.split(" ", 2)

    until(lambda: get("https") == ["200", "", '"a"; b'], "an answer by https")
    assert get("http")[0] == "200"
    admin.run("settings", "set", "say", "proxy.https=redirect")
    until(lambda: get("http")[:2] == ["308", f"https://{name}/"], "a redirect")
    assert get("https")[0] == "200"
    # an event stream begins at once
    stream = ["curl", "-skN", "-u", "ann:pw", "--resolve", f"{name}:443:127.0.0.1", "-m", "3"]
    assert "data: " in box.exec([*stream, f"https://{name}/events"], check=False).stdout
    admin.run("settings", "unset", "say", "proxy.https")
    until(lambda: get("http")[0] == "200", "no redirect")


def asked(server: Server, host: str, credentials: str) -> int:
    """The status of an answer to whoever gives this name and password."""
    words = base64.b64encode(credentials.encode()).decode()
    return server.box.get(host=host, headers={"Authorization": f"Basic {words}"}).status
