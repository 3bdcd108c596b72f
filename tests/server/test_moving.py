"""A host is moved to another one by a file: apps, releases, state, keys, and who may do what."""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import until
from tests.server.server import APPS, Checkout, Person, Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.conftest import Boxes
    from tests.server.image import Image

FILE = "root/gatling.tar.gz"
DOMAIN = "shop.example.com"
VALUE = "a-value-4711-of-its-own"
ENV = 'IO.puts(System.get_env("API_KEY"))'
KEEP = 'File.write!(Path.join(System.user_home!(), "kept"), "x")'


@dataclass
class Moved:
    """Two hosts, after all of one was brought to the other."""

    old: Server
    new: Server
    ann: Person
    """Deploys shop, on the new host with the key that she had on the old one."""
    bob: Person
    """May do nothing with it, here as there."""
    shop: Checkout
    told: str
    """What `restore` has said."""


@pytest.fixture(scope="module")
def moved(
    module_boxes: Boxes, server_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Moved:
    old, new = (
        Server(module_boxes(None, server_image), tmp_path_factory.mktemp(name))
        for name in ("old", "new")
    )
    ann, bob = old.let_in("ann", "shop"), old.let_in("bob", "blog")
    project = ann.project()
    project.push()
    ann.run("config", "set", "shop", "--stdin", "API_KEY", stdin=VALUE)  # v2
    ann.run("domains", "add", "shop", DOMAIN)
    project.title("Autumn")
    assert " is live (hot upgrade) in " in project.push()
    ann.run("run", "shop", "--", "eval", KEEP)
    assert "1 apps" in old.gatling("server", "backup", f"/{FILE}")
    assert stat.S_IMODE((old.box.root / FILE).stat().st_mode) == 0o600

    new.box.exec(["useradd", "--system", "another"])  # has the number that the app's user had
    shutil.move(old.box.root / FILE, new.box.root / FILE)
    told = new.gatling("server", "restore", f"/{FILE}")
    there = Person(new, "ann", ann.key)
    shop = Checkout(there, "shop", project.directory)
    shop.git("remote", "set-url", "gatling", f"gatling@{new.box.name}:shop")
    return Moved(old, new, there, Person(new, "bob", bob.key), shop, told)


def of_app(server: Server, *parts: str) -> Path:
    """A path of shop's, as the tests see it."""
    return server.box.root.joinpath(str(APPS).lstrip("/"), "shop", *parts)


def picture(server: Server) -> tuple[str, ...]:
    """What a restore could change."""
    where = ("/var/lib/gatling", "/etc/systemd", "/etc/nginx", "/etc/passwd", "/etc/group")
    found = server.box.exec(
        ["find", *where, "-not", "-name", "state.db*", "-printf", "%p %U %G %m %s %l\n"],
        check=False,  # a journal of SQLite's may vanish meanwhile
    )
    keys = (server.box.root / "var/lib/gatling/home/.ssh/authorized_keys").read_text()
    told = (
        server.gatling(*words, "--json")
        for words in (
            ("releases", "shop"),
            ("deployments", "shop"),
            ("audit",),
            ("server", "keys", "list"),
        )
    )
    live = server.status()
    for passing in ("uptime", "cpu", "cpu_seconds", "memory", "requests"):
        live.pop(passing)
    return ("\n".join(sorted(found.stdout.splitlines())), keys, json.dumps(live), *told)


def test_all_is_there_again(moved: Moved) -> None:
    old, new, ann = moved.old, moved.new, moved.ann
    assert f"1 apps, backed up on {old.box.name!r}" in moved.told
    assert "shop: started" in moved.told
    until(lambda: new.serves("Autumn"), "the live release", 120)
    assert new.status()["release"] == old.status()["release"] == "v3"
    answer = new.get(host=DOMAIN)
    assert (answer.status, "Autumn" in answer.text) == (200, True)
    assert ann.run("config", "get", "shop", "API_KEY").strip() == VALUE
    assert ann.run("run", "shop", "--", "rpc", ENV).strip() == VALUE
    for words in (
        ("config", "list", "shop", "--show"),
        ("releases", "shop", "--json"),
        ("deployments", "shop", "--json"),
        ("domains", "list", "shop"),
        ("server", "keys", "list", "--json"),
    ):
        assert new.gatling(*words) == old.gatling(*words), words
    actions = [entry["action"] for entry in new.json("audit")]
    assert {"server restore", "server keys add", "load"} <= set(actions)
    new.gatling("server", "check")


def test_files_belong_to_the_users_of_this_host(moved: Moved) -> None:
    old, new = moved.old.box, moved.new.box
    app, gatling = new.user("gatling-shop"), new.user("gatling")
    assert new.user("another").uid == old.user("gatling-shop").uid != app.uid
    kept = of_app(moved.new, "state", "kept")
    assert kept.read_text() == "x"
    assert (kept.stat().st_uid, kept.stat().st_gid) == (app.uid, app.gid)
    for directory, owner in (("state", app), ("releases", gatling), ("git", gatling)):
        for root, directories, files in os.walk(of_app(moved.new, directory)):
            for name in (".", *directories, *files):
                found = os.lstat(f"{root}/{name}")
                assert (found.st_uid, found.st_gid) == (owner.uid, owner.gid), f"{root}/{name}"


def test_a_second_restore_is_refused(moved: Moved) -> None:
    until(lambda: moved.new.serves(""), "the live release", 120)
    before = picture(moved.new)
    said = moved.new.gatling("server", "restore", f"/{FILE}", status=Exit.INVALID)
    assert "has apps: shop; nothing was changed" in said
    assert picture(moved.new) == before
    assert moved.new.serves("")


def test_it_goes_on_where_it_was(moved: Moved) -> None:
    new, ann, bob, shop = moved.new, moved.ann, moved.bob, moved.shop
    until(lambda: new.serves("Autumn"), "the live release", 120)
    before = new.status()
    with new.client(threads=2) as client:
        assert "shop v2 is live (hot upgrade) in " in ann.run("rollback", "shop")
        until(lambda: client.texts and "Autumn" not in client.texts[-1], "the old page", 60)
        assert new.status()["release"] == "v2"
        shop.title("Winter")
        assert "shop v4 is live (hot upgrade) in " in shop.push()
        until(lambda: "Winter" in client.texts[-1], "the new page", 60)
    assert client.failures == []
    assert new.status()["pid"] == before["pid"]
    assert new.last()["actor"] == "ann"
    assert moved.old.serves("Autumn")  # which nobody has touched

    bob.run("status", "shop", status=Exit.REFUSED)
    assert "has no access to an app shop" in bob.project("shop").push(ok=False)
    assert new.status()["release"] == "v4"


def test_keys_that_were_lost_are_written_anew(moved: Moved) -> None:
    file = moved.new.box.root / "var/lib/gatling/home/.ssh/authorized_keys"
    before, info = file.read_text(), file.stat()
    assert [line.split()[-1] for line in before.splitlines()] == ["ann", "bob"]
    file.unlink()
    assert moved.ann.try_run("apps").returncode == 255  # ssh's own: not let in
    moved.new.gatling("recover", "--units")
    assert file.read_text() == before
    after = file.stat()
    assert (after.st_uid, after.st_mode) == (info.st_uid, info.st_mode)
    assert [app["app"] for app in moved.ann.json("apps")] == ["shop"]
