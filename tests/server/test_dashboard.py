"""The dashboard from a laptop, through a real sshd whose keys may forward nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import until
from tests.dashboard.opened import opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.server import Person, Server

SSH = """\
#!/bin/sh
PATH=/usr/bin:/bin:/usr/sbin:/sbin
eval "exec $GIT_SSH_COMMAND" '"$@"'
"""


def laptop(person: Person, directory: Path) -> dict[str, str]:
    """The environment of somebody with the client and their key."""
    program = directory / "ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    return {**person.env, "PATH": f"{directory}:{person.env['PATH']}"}


def serving(server: Server) -> list[str]:
    """The processes of dashboards on the server."""
    return [line for line in server.processes("gatling") if "ssh-command rita" in line]


def test_a_reader_looks_at_their_app_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    server.gatling("load", "shop")
    server.gatling("load", "blog")
    rita = server.let_in("rita", "shop", role="reader")
    before = server.box.exec(["ss", "-Hlnx"]).stdout.count("gatling")
    env = laptop(rita, tmp_path)
    with opened(env, "--host", f"gatling@{server.box.name}") as found:
        assert found.enter().status == 200
        text = found.get("/").text
        assert "/apps/shop" in text
        assert "/apps/blog" not in text
        for path in ("", "/deployments", "/logs", "/jobs", "/settings", "/audit"):
            assert found.get(f"/apps/shop{path}").status == 200, path
            assert found.get(f"/apps/blog{path}").status == 403, path
        assert found.get("/certificates").status == 200
        assert found.get("/databases").status == 200
        assert serving(server)
        assert server.box.exec(["ss", "-Hlnx"]).stdout.count("gatling") == before
        assert "127.0.0.1" not in server.box.exec(["ss", "-Hlnt"]).stdout or not any(
            "python" in line for line in server.box.exec(["ss", "-Hlntp"]).stdout.splitlines()
        )
    until(lambda: not serving(server), "the end of the server's side")
    refused = {(one["actor"], one["app"]) for one in server.json("audit")
               if one["action"] == "refused"}  # fmt: skip
    assert ("rita", "blog") in refused
