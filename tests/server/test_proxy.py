"""Maintenance, passwords and digested files on a server, where nginx is another user."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from tests.conftest import until

if TYPE_CHECKING:
    from tests.server.server import Server

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
    assert files.stdout == "root:www-data 640 say/_\n"

    admin.run("maintenance", "on", "say")
    assert server.get(host=host).status == 503
    assert server.get(host=host).text == "<h1>away</h1>"
    admin.run("maintenance", "off", "say")
    assert asked(server, host, "ann:pw") == 200
    admin.run("unload", "say", "--confirm", "say")
    found = server.box.exec(["find", "/var/lib/gatling", "/etc/nginx/gatling", "-name", "*say*"])
    assert found.stdout == ""


def asked(server: Server, host: str, credentials: str) -> int:
    """The status of an answer to whoever gives this name and password."""
    words = base64.b64encode(credentials.encode()).decode()
    return server.box.get(host=host, headers={"Authorization": f"Basic {words}"}).status
