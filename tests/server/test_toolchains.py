"""Toolchains on a server: root's files, got by a user who owns nothing, for builds of all apps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.toolchains import store
from tests.conftest import until
from tests.mirror import Mirror, debian_elixir, debian_otp, small_otp

if TYPE_CHECKING:
    from tests.server.server import Server

STORE = "opt/gatling-toolchains"
PORT = "8099"
SERVE = f"""\
import functools, http.server, time

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/hang/"):
            self.send_response(200)
            self.end_headers()
            time.sleep(300)
        return super().do_GET()

handler = functools.partial(Handler, directory="/srv/mirror")
http.server.ThreadingHTTPServer(("127.0.0.1", {PORT}), handler).serve_forever()
"""


@pytest.fixture(scope="module")
def versions(server: Server) -> tuple[str, str]:
    """Elixir and OTP that a mirror in the box offers: the box's own, as another patch level."""
    own = store.on_path(
        f"{server.box.root}/usr/lib/elixir/bin:{server.box.root}/usr/lib/erlang/bin"
    )
    assert own is not None
    elixir, major = str(own.elixir), own.otp.numbers[0]
    otp, wrong = f"{major}.99.1", f"{major}.98"
    with Mirror() as builds:
        builds.elixir(elixir, str(major), archive=debian_elixir(server.box.root))
        builds.otp(otp, archive=debian_otp(otp, server.box.root))
        builds.otp(wrong, sha256="ab" * 32)
        builds.otp(f"{major}.97", archive=small_otp(f"{major}.97", padding=160 << 20))
        builds.write(server.box.root / "srv/mirror")
    (server.box.root / "srv/serve.py").write_text(SERVE)
    server.box.exec(["systemd-run", "--unit=mirror", "python3", "/srv/serve.py"])
    return elixir, otp


def stored(server: Server) -> list[str]:
    """The names in the store, without its lock."""
    return sorted(p.name for p in (server.box.root / STORE).iterdir() if p.name != ".lock")


def test_toolchains_of_a_server(server: Server, versions: tuple[str, str]) -> None:
    elixir, otp = versions
    name = f"{elixir}-otp-{otp}"
    admin, dora = server.admin("amy"), server.let_in("dora", "shop")
    mirror = f"http://127.0.0.1:{PORT}"
    admin.run("toolchain", "source", "--mirror", mirror)

    # roles: what is installed on the host is not for deployers
    for words in (("install", elixir), ("remove", elixir), ("source", "--automatic", "on")):
        dora.run("toolchain", *words, status=Exit.REFUSED)

    # another file than was published
    wrong = f"{elixir}/{otp.partition('.')[0]}.98"
    assert "is not the file that was published" in admin.run(
        "toolchain", "install", wrong, status=Exit.INVALID
    )
    assert "has no build of" in admin.run("toolchain", "install", "7.7", status=Exit.NOT_FOUND)
    assert stored(server) == []

    # a client that is lost ends the download, which runs as a user who owns nothing
    admin.run("toolchain", "source", "--mirror", f"{mirror}/hang")
    with admin.session("toolchain", "install", elixir):
        until(lambda: server.processes("_gatling"), "the download")
        shown = server.show("gatling-toolchain.service", "User", "NoNewPrivileges", "ProtectSystem")
        assert shown == {"User": "_gatling", "NoNewPrivileges": "yes", "ProtectSystem": "strict"}
    until(lambda: not server.processes("_gatling"), "the end of the download")
    until(lambda: stored(server) == [], "the clean-up")

    admin.run("toolchain", "source", "--mirror", mirror)
    assert f"Installed {name}" in admin.run("toolchain", "install", f"{elixir}/{otp}")
    assert f"{name} is already installed" in admin.run("toolchain", "install", f"{elixir}/{otp}")
    assert stored(server) == [name]
    listed = server.box.exec(["find", f"/{STORE}/{name}", "!", "-user", "root", "-o", "-perm",
                              "/7022", "!", "-type", "l"]).stdout  # fmt: skip
    assert listed == ""

    # a build uses it where the deployer says so
    project = dora.project("shop")
    dora.run("load", "shop")
    assert otp in dora.run("toolchain", "list")
    dora.run("toolchain", "use", "shop", f"{elixir}/{otp}")
    project.push()
    assert server.json("info", "shop")["otp"] == otp
    assert [each["apps"] for each in server.json("toolchain", "list")] == [["shop"], []]
    assert "shop would be built with" in admin.run("toolchain", "remove", name, status=Exit.INVALID)
    dora.run("toolchain", "use", "shop", "auto")
    admin.run("toolchain", "remove", name)
    assert stored(server) == []
    assert server.serves("")

    # from a directory: the packages of the distribution
    admin.run("toolchain", "install", elixir, "--from", "/usr")
    assert len(stored(server)) == 1
    assert "is not there, or cannot be read" in admin.run(
        "toolchain", "install", elixir, "--from", "/root/secret", status=Exit.INVALID
    )

    # a small disk
    server.box.exec(["mount", "-t", "tmpfs", "-o", "size=50m,mode=755", "none", f"/{STORE}"])
    assert "needs room" in admin.run("toolchain", "install", elixir, status=Exit.INVALID)
    server.box.exec(["umount", f"/{STORE}"])


def test_a_disk_that_fills_up_during_an_installation(
    server: Server, versions: tuple[str, str]
) -> None:
    """The archive is small, but what is in it does not leave the reserve of the disk."""
    elixir, otp = versions
    large = f"{elixir}/{otp.partition('.')[0]}.97"
    server.gatling("toolchain", "source", "--mirror", f"http://127.0.0.1:{PORT}")
    server.box.exec(["mount", "-t", "tmpfs", "-o", "size=290m,mode=755", "none", f"/{STORE}"])
    try:
        said = server.gatling("toolchain", "install", large, status=Exit.HOST)
        assert "A toolchain needs room" in said
        assert server.box.exec(["ls", "-A", f"/{STORE}"]).stdout.split() == [".lock"]
        # no app can hold the lock
        assert server.box.exec(["stat", "-c", "%a", f"/{STORE}/.lock"]).stdout.strip() == "600"
    finally:
        server.box.exec(["umount", f"/{STORE}"])
