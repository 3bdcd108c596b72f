"""Hostile command lines over SSH: none does more than the key may, whatever it looks like."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatling.errors import Exit, InvalidInput
from gatling.operations import apps as loading
from gatling.ssh import access
from gatling.state import audit
from gatling.ui.progress import Progress
from tests.scale import scaled
from tests.ssh.visits import Server, new_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = settings(
    max_examples=scaled(100, 500),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
WORKS = {Exit.OK, Exit.USAGE, Exit.INVALID, Exit.NOT_FOUND, Exit.REFUSED}

READS = {"apps", "status", "releases", "deployments", "logs", "plan", "audit", "domains list",
         "settings list"}  # fmt: skip
DEPLOYS = {"load", "deploy", "rollback", "restart", "start", "stop", "run", "console",
           "config list", "config get", "config set", "config unset", "settings set",
           "settings unset", "domains add", "domains remove"}  # fmt: skip
CANARY = "touch canary"
WORDS = st.sampled_from(
    [
        *READS, *DEPLOYS, "unload", "init", "up", "down", "receive", "ssh-command", "server keys",
        "server keys add", "server keys list", "server install", "git-receive-pack",
        "git-upload-pack", "git-upload-archive", "git", "receive-pack", "upload-pack", "bash -c",
        "shop", "'shop'", "'/shop.git'", "'~/shop'", "blog", "'blog.git'", "new", "shop,blog", "*",
        "--json", "--help", "-h", "--version", "--", "-", "-n", "5", "-f", "--file", "A",
        "/etc/passwd", "--stdin", "A=1", "--no-restart", "--strategy", "hot", "--confirm",
        "--release", "v1", "--host", "ann", "--role", "admin", "--app", "eval",
        f"; {CANARY}", f"| {CANARY}", f"&& {CANARY}", f"$({CANARY})", f"`{CANARY}`", f"> {CANARY}",
        f"'$({CANARY})'", f"\"`{CANARY}`\"", f"--upload-pack={CANARY}", f"--exec='{CANARY}'",
        f"-oProxyCommand='{CANARY}'", f"--receive-pack='{CANARY}' shop", "-c", "alias.x='!touch c'",
        "../blog", "shop/../blog", "'shop/../../apps/blog'", "/tmp/gt/apps/blog.git", "~/blog",
        "\n", "\r", "\t", "'", '"', "\\", "\x1b[0m", "\u202eshop", "\u0455hop", "shop\u200b",
        "\u3000", "#", "{a,b}", "*?[", "$IFS", "${SHELL}", "é", "\udcff",
    ]
)  # fmt: skip
OPTIONS = st.lists(
    st.sampled_from(
        ["--json", "-n 5", "-n blog", "-f", "--", "A=1", "--stdin A", "v1", "--strategy hot",
         "--confirm shop", "--release v1", "eval", "blog", "--show", "shop", f"'$({CANARY})'"]
    ),
    max_size=2,
).map(" ".join)  # fmt: skip
APPS = st.sampled_from(["shop", "blog", "new", "'shop'"])
NEAR = st.builds(
    "{} {} {} {}".format, st.sampled_from(sorted(READS | DEPLOYS)), OPTIONS, APPS, OPTIONS
)
GIT = st.builds(
    "{} {}".format,
    st.sampled_from(["git-receive-pack", "git-upload-pack", "git receive-pack"]),
    st.one_of(WORDS, APPS, st.sampled_from(["/shop.git", "~/blog", "new", "'/new.git'"])),
)
HOSTILE = st.one_of(
    NEAR,
    GIT,
    NEAR,
    st.builds("{} {}".format, NEAR, WORDS),
    st.lists(WORDS, max_size=7).map(" ".join),
    st.lists(WORDS, max_size=5).map("".join),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80),
    st.builds("{} {}".format, WORDS, st.text(st.characters(codec="ascii"), max_size=40)),
).map(lambda text: text.replace("\0", ""))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_server() as made:
        yield made


@pytest.mark.parametrize("name", ["bob", "rita"])
@EXAMPLES
@given(typed=HOSTILE)
@example(typed="git-receive-pack blog")
@example(typed="config set --stdin shop -- blog A=1")
@example(typed="run blog --release shop shop")
@example(typed="logs -n shop blog")
def test_no_command_line_does_more_than_it_may(
    server: Server, tmp_path: Path, name: str, typed: str
) -> None:
    with contextlib.chdir(tmp_path):
        seen = server.visit(name, typed)
    assert list(tmp_path.iterdir()) == []
    own = {"bob": {"shop", "new"}, "rita": {"shop"}}[name]
    commands = READS | (DEPLOYS if name == "bob" else set())
    assert seen.became is not None or seen.status in WORKS
    for path, given_ in seen.ran:
        assert path in commands, typed
        assert path == "apps" or given_["app"] in own, typed
        assert not given_.get("files"), typed
    if seen.became is not None:
        assert not seen.ran
        git, service, where = seen.became.argv
        assert (git, where.startswith("/")) == ("git", True)
        assert service == "upload-pack" or (service == "receive-pack" and name == "bob"), typed
        assert where in {server.repository(app) for app in own}, typed
    assert set(server.apps()) <= {"shop", "blog", "new"}
    if "new" in server.apps():  # a first push by one who may
        with server.opened() as gatling:
            assert audit.latest(gatling.db, "new")[0].actor == "bob"
            loading.unload(gatling, "new", Progress())


@EXAMPLES
@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20), max_size=6))
def test_words_come_back_as_they_were_quoted(words: list[str]) -> None:
    assert access.split(shlex.join(words)) == words


@EXAMPLES
@given(st.text(max_size=60))
def test_every_text_is_words_or_an_error(typed: str) -> None:
    with contextlib.suppress(InvalidInput):
        words = access.split(typed)
        assert all(word.isprintable() or not word.isascii() for word in words)
