"""On a server, a release that Distillery has made: in a tree that its user cannot write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.distillery.conftest import with_distillery, with_files

if TYPE_CHECKING:
    from tests.server.server import Server


def test_a_release_of_distillerys_is_upgraded_and_gone_back_to(server: Server) -> None:
    person = server.let_in("dora", "made")
    project = with_files(with_distillery(person.project("made")))
    project.commit()
    ask = ["erl", "-noshell", "-eval", "io:put_chars(code:root_dir()), halt()."]
    record = ["md5sum", f"{server.box.exec(ask).stdout.strip()}/releases/RELEASES"]
    before = server.box.exec(record).stdout
    project.push()
    pid = server.status("made")["pid"]
    project.title("second")
    assert "Hot upgrade: counter: 1 changed module" in project.push()
    assert server.serves("<h1>second</h1>", "made")
    assert "Hot upgrade" in person.run("rollback", "made")
    assert server.serves("from the hook", "made")
    assert server.status("made")["pid"] == pid
    assert server.box.exec(record).stdout == before
    # a command of the release's own, which speaks to the node with the cookie from its file
    assert person.run("run", "made", "--", "hello", "you").startswith("hello you, counter 0.1.0")
    cookie = person.run("config", "get", "made", "RELEASE_COOKIE").strip()
    assert len(cookie) > 20
    assert not any(cookie in line for line in server.processes("gatling-made"))
