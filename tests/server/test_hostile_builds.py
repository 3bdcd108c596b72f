"""Whoever may push to one app: what his builds, and what he pushes, can do to everything else."""

from __future__ import annotations

import base64
import json
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.server import Checkout, Person, Server

SHOP = "var/lib/gatling/apps/shop"
PROGRAM = """\
{_, 0} = System.cmd("/usr/bin/python3", ["-u", "program.py"], into: IO.stream(), stderr_to_stdout: true)
"""  # noqa: E501
SLEEP = f"{secrets.randbelow(10**9) + 10**9}"
"""Seconds that what is left behind by builds sleeps; so it is known among processes."""


@pytest.fixture(scope="module")
def ann(server: Server) -> Person:
    return server.let_in("ann", "shop")


@pytest.fixture(scope="module")
def bob(server: Server) -> Person:
    return server.let_in("bob", "blog")


@pytest.fixture(scope="module")
def blog(server: Server, bob: Person) -> Checkout:
    """Another app, which must not notice anything."""
    project = bob.project("blog")
    project.push()
    return project


@pytest.fixture(scope="module")
def first(server: Server, ann: Person, blog: Checkout) -> Checkout:
    project = ann.project("shop")
    ann.run("load", "shop")
    # what they do to each other in the cut-over is tested elsewhere
    ann.run("settings", "set", "shop", "deploy.strategy=restart", "instance.drain=0")
    project.push()
    return project


@pytest.fixture
def shop(server: Server, ann: Person, first: Checkout) -> Iterator[Checkout]:
    """The app as it was first pushed; after the test it and the other one still serve."""
    base = first.git("rev-list", "--max-parents=0", "HEAD")
    first.git("reset", "--quiet", "--hard", base)
    first.git("clean", "--quiet", "-ffdx")
    pids = [server.status(app)["pid"] for app in ("blog",)]
    yield first
    assert server.serves("", "blog")
    assert [server.status(app)["pid"] for app in ("blog",)] == pids
    until(lambda: server.serves("", "shop"), "the app")
    until(lambda: not left_of_builds(server), "an end of all that builds have left", 60)


def left_of_builds(server: Server) -> list[str]:
    """What goes on of builds: no unit, and no process but those of the instance."""
    units = server.box.exec(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "gatling-build-*",
         "gatling-release-*", "gatling-run-*"]
    ).stdout.splitlines()  # fmt: skip
    known = ("beam.smp", "erl_child_setup", "inet_gethost", "/bin/sh -s unix:cmd")
    found = server.processes("gatling-shop")
    return units + [line for line in found if not any(word in line for word in known)]


def program(project: Checkout, text: str, then: str = "") -> None:
    """A program in Python that runs as mix.exs is read."""
    project.write("program.py", text)
    elixir(project, PROGRAM + then)


def elixir(project: Checkout, text: str) -> None:
    project.write("mix.exs", text + (project.directory / "mix.exs").read_text())
    project.commit("hostile")


def push(project: Checkout, *refs: str, ok: bool) -> str:
    options = ("--force",)
    return project.push(*(refs or ("HEAD:refs/heads/main",)), ok=ok, options=options)


def test_a_build_gets_at_nothing(server: Server, ann: Person, shop: Checkout) -> None:
    live = server.status("blog")
    mark = f"mark-{secrets.token_hex(8)}"
    ports = [p for p in listening(server) if p > 1024]
    assert len(ports) >= 3  # of both apps, and of a node
    shop.write("target.json", json.dumps({"pid": live["pid"], "ports": ports, "mark": mark}))
    program(shop, (Path(__file__).with_name("attack.py")).read_text())
    before = server.box.exec(["sha256sum", "/etc/passwd", "/etc/group", "/etc/shadow"]).stdout
    text = push(shop, ok=True)
    lines = [line.strip() for line in text.splitlines()]
    assert [line for line in lines if line.startswith("GOT ")] == []
    assert "DONE" in lines
    assert sum(line.startswith("SAFE ") for line in lines) > 100
    after = server.box.exec(["sha256sum", "/etc/passwd", "/etc/group", "/etc/shadow"]).stdout
    assert after == before
    places = ["/tmp", "/var/tmp", "/dev/shm", "/run"]
    assert server.box.exec(["find", *places, "-xdev", "-name", mark]).stdout == ""
    assert not (server.box.root / "var/lib/systemd/linger/gatling-shop").exists()


def listening(server: Server) -> list[int]:
    said = server.box.exec(["ss", "-Htln"]).stdout
    return sorted({int(line.split()[3].rpartition(":")[2]) for line in said.splitlines()})


def test_links_that_a_build_leaves_lead_gatling_nowhere(
    server: Server, ann: Person, shop: Checkout
) -> None:
    """To what is loaded into nodes, above all: Gatling reads it, and the node is the app's."""
    program(
        shop,
        "import os, pathlib\n"
        "for file in pathlib.Path('../cache').glob('*/*/gatling_*.beam'):\n"
        "    file.unlink(); os.symlink('/var/lib/gatling/home/state.db', file)\n"
        "    print('link', file.name)\n",
    )
    ann.run("settings", "set", "shop", "deploy.strategy=auto")
    try:
        text = push(shop, ok=True)
        assert "link gatling_agent.beam" in text
        assert "cannot be read" in text  # it goes on without: by a rolling deployment
        assert "(rolling deployment)" in text
    finally:
        ann.run("settings", "set", "shop", "deploy.strategy=restart")
        server.box.exec(["rm", "-rf", f"/{SHOP}/build/cache"])


def test_a_release_with_a_link_that_leads_out_is_refused(server: Server, shop: Checkout) -> None:
    live = server.status()["release"]
    directory = shop.directory / "rel/overlays/etc"
    directory.mkdir(parents=True)
    (directory / "names").symlink_to("/etc/passwd")
    shop.commit("link")
    text = push(shop, ok=False)
    assert "The release has a link that leads out of it: etc/names → /etc/passwd" in text
    assert server.status()["release"] == live


def test_a_build_that_takes_too_much_memory(server: Server, ann: Person, shop: Checkout) -> None:
    ann.run("settings", "set", "shop", "build.memory=250M")
    try:
        elixir(shop, ":binary.copy(<<1>>, 1_000_000_000)\n")
        with server.client("blog") as client:
            text = push(shop, ok=False)
        assert client.failures == []
        assert "it exceeded its memory limit (250M)" in text
        assert server.last()["outcome"] == "failed"
    finally:
        ann.run("settings", "unset", "shop", "build.memory")


def test_a_fork_bomb(server: Server, ann: Person, shop: Checkout) -> None:
    ann.run("settings", "set", "shop", "build.tasks=100", "build.timeout=8")
    try:
        program(
            shop,
            "import os, time\n"
            "while True:\n"
            "    try:\n        os.fork()\n"
            "    except OSError:\n        time.sleep(0.5)\n",
        )
        with server.client("blog", pause=0.1) as client:
            text = push(shop, ok=False)
        assert client.failures == []
        assert "did not end within 8 seconds and was stopped" in text
        assert ann.json("status", "shop")["state"] == "running"
    finally:
        ann.run("settings", "unset", "shop", "build.tasks", "build.timeout")


def test_how_much_of_a_processor_a_build_gets(server: Server, ann: Person, shop: Checkout) -> None:
    ann.run("settings", "set", "shop", "build.cpu=50%")
    try:
        program(
            shop,
            "import time\n"
            "end = time.monotonic() + 2\n"
            "while time.monotonic() < end: pass\n"
            "print('busy', time.process_time() / 2)\n",
        )
        text = push(shop, ok=True)
    finally:
        ann.run("settings", "unset", "shop", "build.cpu")
    shares = [float(share) for share in re.findall(r"busy ([0-9.]+)", text)]
    assert shares
    assert all(0 < share < 0.7 for share in shares)


DAEMONS = f"""
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 99)
            os.execv("/bin/sleep", ["sleep", "{SLEEP}"])
        os._exit(0)
subprocess.Popen(["setsid", "nohup", "sleep", "{SLEEP}"], stdin=subprocess.DEVNULL,
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
print("left behind", flush=True)
"""


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_build_leaves_behind_has_ended(
    server: Server, ann: Person, shop: Checkout, ends: bool
) -> None:
    program(shop, DAEMONS + ("" if ends else "while True: time.sleep(9)\n"))
    ann.run("settings", "set", "shop", f"build.timeout={90 if ends else 20}")
    try:
        text = push(shop, ok=ends)
    finally:
        ann.run("settings", "unset", "shop", "build.timeout")
    assert "left behind" in text
    assert ends or "did not end within 20 seconds and was stopped" in text
    said = server.box.exec(["ps", "axo", "args"]).stdout
    assert SLEEP not in said


def test_whoever_listens_on_an_apps_port_is_not_taken_for_it(
    server: Server, ann: Person, bob: Person, shop: Checkout
) -> None:
    """The other app's free slot: nothing listens there but while it is deployed."""
    live = server.status("blog")
    (port,) = [p for p in ports_of(server, "blog") if p not in listening(server)][:1]
    code = f"{{:ok, _}} = :gen_tcp.listen({port}, []); Process.sleep(:infinity)"
    squatting = server.box.start_ssh("gatling", ["run", "shop", "--", "eval", code], key=ann.key)
    try:
        until(lambda: port in listening(server), "somebody else on the port", 60)
        text = bob.run("restart", "blog", status=Exit.HOST)
        assert f"Port {port}, which belongs to blog, is taken" in text
        assert server.status("blog")["pid"] == live["pid"]
    finally:
        server.box.exec(["systemctl", "stop", "gatling-run-shop.*"])
        squatting.communicate(timeout=120)
    until(lambda: port not in listening(server), "the end of the program", 60)


def ports_of(server: Server, app: str) -> list[int]:
    text = (server.box.root / "etc/nginx/gatling/sites.conf").read_text()
    block = text.partition(f"server_name {app}.localhost;")[2].partition("server_name")[0]
    return [int(port) for port in re.findall(r"set \$gatling_port (\d+);", block)]


def test_a_full_disk(server: Server, ann: Person, shop: Checkout) -> None:
    live = server.status()
    user = server.box.user("gatling-shop")
    group = server.box.user("gatling").gid
    options = f"size=9m,mode=750,uid={user.uid},gid={group}"
    server.box.exec(["mount", "-t", "tmpfs", "-o", options, "tmpfs", f"/{SHOP}/build"])
    try:
        shop.title("Too much")
        text = push(shop, ok=False)
        assert "no space is left on the disk" in text
        assert "no space is left on the disk" in ann.run("deploy", "shop", status=Exit.HOST)
        assert server.status()["pid"] == live["pid"]
    finally:
        server.box.exec(["umount", f"/{SHOP}/build"])
    push(shop, ok=True)
    assert server.serves("Too much")


# ---------------------------------------------------------------- what is pushed


def test_refs_of_all_names(server: Server, shop: Checkout) -> None:
    live = server.status()["release"]
    names = ["a;id", "$(id>x)", "`id`", "a|b", "'", '"', "-rf", "%s%n", "a&b", "\u202eniam", "MAIN",
             "é", "x" * 200, "#", "{a,b}", "refs/heads/main"]  # fmt: skip
    refs = [f"HEAD:refs/heads/{name}" for name in names]
    refs += ["HEAD:refs/tags/main"]
    shop.commit("another")
    for other in ("refs/notes/x", "refs/gatling/releases/v9", "refs/replace/x"):
        push(shop, f"HEAD:{other}", ok=False)
    text = push(shop, *refs, ok=True)
    assert text.count("not deployed") == len(refs)
    assert "serves" not in text
    assert server.status()["release"] == live
    push(shop, *(f":{ref.removeprefix('HEAD:')}" for ref in refs), ok=True)


def raw_tree(project: Checkout, entries: list[tuple[str, bytes, str]]) -> str:
    """A tree object, whatever is in it."""
    content = b"".join(
        mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries
    )
    file = project.directory.parent / "tree"
    file.write_bytes(content)
    return project.git("hash-object", "-t", "tree", "-w", "--literally", str(file))


def test_trees_with_hostile_paths_are_refused(server: Server, shop: Checkout) -> None:
    deployments = len(server.json("deployments", "shop"))
    blob = shop.git("rev-parse", "HEAD:mix.exs")
    inner = raw_tree(shop, [("100755", b"post-checkout", blob)])
    link = shop.git("hash-object", "-w", "--stdin-paths", check=False) or blob
    for entries in (
        [("40000", b".git", inner)],
        [("40000", b".GIT", inner)],
        [("40000", b"..", inner)],
        [("40000", b".", inner)],
        [("100644", b"a/b", blob)],
        [("40000", b"GIT~1", inner)],
        [("120000", b".gitmodules", link)],
        [("100644", b"", blob)],
    ):
        tree = raw_tree(shop, [*entries, ("100644", b"mix.exs", blob)])
        commit = shop.git("commit-tree", "-m", "hostile", tree)
        text = push(shop, f"{commit}:refs/heads/main", ok=False)
        assert "fsck" in text or "unpack" in text or "index-pack" in text, text
    assert len(server.json("deployments", "shop")) == deployments  # none has even begun


def submodule(project: Checkout, url: str, path: str = "sub") -> None:
    project.write(".gitmodules", f'[submodule "sub"]\n\tpath = {path}\n\turl = {url}\n')
    project.git("add", ".gitmodules")
    head = project.git("rev-parse", "HEAD")
    project.git("update-index", "--add", "--cacheinfo", f"160000,{head},{path}")
    project.git("commit", "--quiet", "--message", "submodule")


@pytest.mark.parametrize(
    "url",
    ["ext::sh -c touch% /tmp/pwned", "--upload-pack=touch${IFS}/tmp/pwned",
     "file:///var/lib/gatling/apps/blog/git", "/var/lib/gatling/apps/blog/git",
     "ssh://-oProxyCommand=touch${IFS}/tmp/pwned/x"],
)  # fmt: skip
def test_submodules_from_elsewhere(server: Server, shop: Checkout, url: str) -> None:
    live = server.status()["release"]
    submodule(shop, url)
    text = push(shop, ok=False)
    assert "submodule" in text or "fsck" in text
    assert server.status()["release"] == live
    assert not (server.box.root / "tmp/pwned").exists()


def test_links_in_the_place_of_files(server: Server, shop: Checkout) -> None:
    live = server.status()["release"]
    (shop.directory / "gatling.toml").symlink_to("/etc/passwd")
    shop.commit("link")
    assert "gatling.toml must be a regular file" in push(shop, ok=False)
    (shop.directory / "gatling.toml").unlink()
    (shop.directory / "mix.exs").unlink()
    (shop.directory / "mix.exs").symlink_to("/var/lib/gatling/home/bin/gatling")
    shop.commit("link")
    assert "There is no mix.exs" in push(shop, ok=False)
    assert server.status()["release"] == live


@pytest.mark.parametrize(
    "text",
    ['[limits]\nmemory = "1G\\nUser=root"', '[limits]\ncpu = "100%\\n"', '[build]\nmemory = "%h"',
     '[health]\npath = "/\\r\\nX-Evil: 1"', '[deploy]\nbranch = "main\\nrefs/heads/x"',
     '[build]\nrelease = "--eval"'],
)  # fmt: skip
def test_hostile_settings(server: Server, shop: Checkout, text: str) -> None:
    shop.write("gatling.toml", text + "\n")
    shop.commit("settings")
    assert "gatling.toml, line 2" in push(shop, ok=False)
    drop_in = server.box.root / "etc/systemd/system/gatling@shop.1.service.d/app.conf"
    assert "root" not in drop_in.read_text()


def test_config_of_all_characters_comes_through_as_it_is(
    server: Server, ann: Person, shop: Checkout
) -> None:
    values = {
        "H_LINES": "first\nsecond\r\n\n[Service]\nUser=root",
        "H_QUOTES": "'\"`\\ \\n $(id) ${HOME} $HOME #;|&<>",
        "H_UNIT": "%i %n %% %h %",
        "H_UNICODE": "žluťoučký 🐎 \u202e\u2028\x01\x7f",
        "H_LONG": "x" * 100_000,
        "H_BLANK": "  \t ",
    }
    for name, value in values.items():
        ann.run("config", "set", "shop", "--no-restart", "--stdin", name, stdin=value)
    shop.title("With values")
    push(shop, ok=True)
    code = 'for n <- ~w(%s), do: IO.puts(n <> " " <> Base.encode64(System.get_env(n) || ""))'
    said = ann.run("run", "shop", "--", "rpc", code % " ".join(values))
    got = dict(line.split(" ", 1) for line in said.splitlines())
    assert {name: base64.b64decode(text).decode() for name, text in got.items()} == values
    ann.run("config", "unset", "shop", "--no-restart", *values)
