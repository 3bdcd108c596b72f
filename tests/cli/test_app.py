"""Which app a command is about: named, from the environment, or from the project's git remotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatling.cli import cli, targets, words
from gatling.errors import Exit, InvalidInput, Misused
from tests.cli.conftest import tree
from tests.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Laptop

LEAVES = {" ".join(n): c for n, c in tree(cli) if not isinstance(c, click.Group)}
WITH_APP = sorted(name for name, command in LEAVES.items() if words.takes_app(command))


def meant(line: str, implied: str | None = "shop", named: str | None = None) -> str:
    found = words.with_app(cli, line.split(), named=named, implied=lambda _: implied)
    return " ".join(found)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("status", "status shop"),
        ("status --json", "status shop --json"),
        ("status blog", "status blog"),
        ("logs -f -n 5", "logs shop -f -n 5"),
        ("rollback v3", "rollback shop v3"),
        ("rollback blog v3", "rollback blog v3"),
        ("rollback blog", "rollback blog"),
        ("deploy v7 --strategy hot", "deploy shop v7 --strategy hot"),
        ("deploy 3f2a91c", "deploy shop 3f2a91c"),
        ("deploy feature/x", "deploy shop feature/x"),
        ("deploy blog", "deploy blog"),
        ("deploy cafe", "deploy cafe"),
        ("deployments 12", "deployments shop 12"),
        ("config set A=1 B=2", "config set shop A=1 B=2"),
        ("config set blog A=1", "config set blog A=1"),
        ("config set --stdin A", "config set shop --stdin A"),
        ("config get A", "config get shop A"),
        ("config get shop", "config get shop"),
        ("config unset A B", "config unset shop A B"),
        ("settings unset health.path", "settings unset shop health.path"),
        ("domains add shop.example.com", "domains add shop shop.example.com"),
        ("auth add shop.example.com ann", "auth add shop shop.example.com ann"),
        ("scale worker=2", "scale shop worker=2"),
        ("run -- migrate", "run shop -- migrate"),
        ("run -- blog x", "run shop -- blog x"),
        ("run migrate", "run shop migrate"),
        ("run eval IO.puts(1)", "run shop eval IO.puts(1)"),
        ("run blog -- migrate", "run blog -- migrate"),
        ("jobs run report", "jobs run shop report"),
        ("jobs runs", "jobs runs shop"),
        ("audit", "audit shop"),
        ("audit --all", "audit --all"),
        ("load", "load shop"),
        ("apps", "apps"),
        ("recover", "recover"),
        ("config", "config"),
        ("status --help", "status --help"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_app_that_is_left_out(typed: str, read: str) -> None:
    assert meant(typed) == read


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("status -a blog", "status blog"),
        ("status -ablog --json", "status blog --json"),
        ("status --app=blog", "status blog"),
        ("rollback v3 --app blog", "rollback blog v3"),
        ("logs -fa blog -n5", "logs blog -f -n5"),
        ("logs -n5 -f -a blog", "logs blog -n5 -f"),
        ("deploy -a blog main", "deploy blog main"),
        ("jobs run -a report report", "jobs run report report"),
        ("config set -a blog --stdin -a B=1", "config set blog --stdin -a B=1"),
        ("config set --file A path --file -a path -a blog",
         "config set blog --file A path --file -a path"),
        ("run -a blog -- eval -a x", "run blog -- eval -a x"),
        ("run shop -- eval -a x", "run shop -- eval -a x"),
    ],
)  # fmt: skip
def test_an_app_that_an_option_names(typed: str, read: str) -> None:
    assert meant(typed) == meant(typed, implied=None) == read
    assert meant(read, implied=None) == read


def test_an_option_in_front_of_the_command() -> None:
    for typed in (["-a", "blog"], ["-a=blog"], ["--app", "blog"], ["--host", "x", "--app=blog"]):
        given_, rest = words.take_options([*typed, "status", "--json"])
        assert (given_["--app"], rest) == ("blog", ["status", "--json"])
    assert meant("status", named="blog") == "status blog"
    assert meant("status -a other", named="blog") == "status other"
    with pytest.raises(Misused, match="`gatling apps` takes no app"):
        meant("apps", named="blog")
    assert meant("server keys add ann --app blog") == "server keys add ann --app blog"


@pytest.mark.parametrize("name", ["-x", "", "Shop", "a b", "--confirm"])
def test_a_name_that_no_app_can_have(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be an app's name"):
        words.with_app(cli, ["unload", "--app", name])


OPTIONS = ["--json", "-f", "-n", "5", "-n5", "--lines=5", "--", "-", "x", "v7", "A=1", "--no-such",
           "--file", "-zf", "--confirm", "--strategy=hot", "--since", "-fn", "--stdin"]  # fmt: skip


@settings(max_examples=scaled(200, 1000))
@given(st.sampled_from(WITH_APP), st.lists(st.sampled_from(OPTIONS), max_size=5), st.data())
def test_the_words_are_sorted_as_click_does(
    name: str, rest: list[str], data: st.DataObject
) -> None:
    """Whatever else is typed: `-a blog` changes nothing but the app."""
    command = LEAVES[name]
    end = rest.index("--") if "--" in rest else len(rest)
    at = data.draw(st.integers(0, end))
    option = data.draw(
        st.sampled_from([["-a", "blog"], ["-ablog"], ["--app", "blog"], ["--app=blog"]])
    )

    def read(line: list[str]) -> object:
        parser = command.make_parser(click.Context(command, help_option_names=[]))
        try:
            return parser.parse_args(args=list(line))[0]
        except click.UsageError:
            return None

    whole = [*rest[:at], *option, *rest[at:]]
    plain, with_option = read(["blog", *rest]), read(whole)
    if plain is None or with_option is None or not isinstance(with_option, dict):
        return
    found = words.with_app(cli, [*name.split(), *whole])
    if with_option.get("app_option") == "blog" and not words.asks_for_help(whole):
        assert found[len(name.split())] == "blog"
        assert read(found[len(name.split()) :]) == plain
    else:  # it was the value of another option
        assert found == [*name.split(), *whole]


# -- from the project ------------------------------------------------------------------------------


def test_the_remote_names_the_app_as_well(laptop: Laptop) -> None:
    laptop.remotes(gatling="gatling@box:shop", origin="git@github.example:me/shop.git")
    deep = laptop.project / "deep/er"
    assert laptop.sent("status", cwd=deep) == ["gatling@box", "--", "status shop"]
    assert laptop.sent("rollback", "v3") == ["gatling@box", "--", "rollback shop v3"]
    assert laptop.sent("status", "blog") == ["gatling@box", "--", "status blog"]
    assert laptop.sent("-a", "blog", "status") == ["gatling@box", "--", "status blog"]
    assert laptop.sent("status", "-a", "blog") == ["gatling@box", "--", "status blog"]
    assert laptop.sent("status", GATLING_APP="two") == ["gatling@box", "--", "status two"]
    assert laptop.sent("status", GATLING_HOST="box") == ["gatling@box", "--", "status shop"]
    assert laptop.run("status").stderr == "shop on box\n"
    assert laptop.run("status", GATLING_APP="two").stderr == "two on box\n"
    for said in (("status", "blog"), ("status", "-a", "blog"), ("status", "--json"), ("apps",)):
        assert laptop.run(*said).stderr == ""


def test_an_app_of_another_server_is_not_meant(laptop: Laptop) -> None:
    laptop.remotes(gatling="gatling@box:shop")
    done = laptop.run("--host", "two", "status")
    assert done.returncode == Exit.USAGE
    assert "no git remote" in done.stderr
    assert "names one on gatling@two" in done.stderr
    assert "gatling status APP, or -a APP" in done.stderr
    assert laptop.sent("--host", "two", "audit") == ["gatling@two", "--", "audit"]


def test_remotes_that_name_several_apps(laptop: Laptop) -> None:
    laptop.remotes(production="gatling@box:shop", staging="gatling@box:shop-staging")
    done = laptop.run("restart")
    assert done.returncode == Exit.USAGE
    assert "name several apps on gatling@box: shop, shop-staging" in done.stderr
    assert "gatling restart shop" in done.stderr
    laptop.git("remote", "add", "gatling", "ssh://gatling@box:22/~/main.git")
    assert laptop.sent("restart") == ["-p", "22", "gatling@box", "--", "restart main"]


def test_a_home_on_this_machine(laptop: Laptop) -> None:
    laptop.remotes(gatling=str(laptop.root / ".gatling/apps/shop.git"))
    done = laptop.run("load")
    assert (done.returncode, done.stderr) == (0, "shop on this machine\n")
    assert "shop is ready" in done.stdout
    assert '"app": "shop"' in laptop.run("status", "--json").stdout
    done = laptop.run("status", GATLING_HOME=str(laptop.root / "other"))
    assert "No app is named. GATLING_APP is not set" in done.stderr


def test_outside_a_project(laptop: Laptop) -> None:
    done = laptop.run("config", "set", "A=1")
    assert done.returncode == Exit.USAGE
    assert (
        "No app is named. GATLING_APP is not set, and the current directory is in no git project."
        in done.stderr
    )
    assert "Usage: gatling config set" in done.stderr
    done = laptop.run("rollback", "v3")
    assert "No app is named" in done.stderr
    assert "gatling rollback APP, or -a APP" in done.stderr
    assert not (laptop.root / ".gatling").exists()
    done = laptop.run("status", GATLING_APP="No")
    assert done.returncode == Exit.INVALID
    assert "GATLING_APP is 'No'" in done.stderr


@pytest.mark.parametrize(
    ("url", "host", "app"),
    [
        ("gatling@box:shop", "box", "shop"),
        ("gatling@box:shop.git", "box", "shop"),
        ("ssh://gatling@box/~/shop.git/", "box:22", "shop"),
        ("ssh://gatling@box:2222/shop", "box:2222", "shop"),
        ("ssh://gatling@box:2222/shop", "box", None),
        ("gatling@box:../shop", "box", None),
        ("gatling@box:-x", "box", None),
        ("git@box:shop", "box", None),
        ("https://gatling@box/shop", "box", None),
        ("/home/me/shop.git", "box", None),
        ("/home/me/apps/shop.git", None, "shop"),
        ("file:///home/me/apps/shop.git", None, "shop"),
        ("/home/you/apps/shop.git", None, None),
        ("/home/me/apps/shop", None, None),
        ("gatling@box:shop", None, None),
    ],
)  # fmt: skip
def test_what_a_remote_names(tmp_path: Path, url: str, host: str | None, app: str | None) -> None:
    home = type(tmp_path)("/home/me")
    listing = [f"production\t{url} (push)", f"production\t{url} (fetch)"]
    found = targets.apps_at(listing, targets.parse(host) if host else None, home)
    assert found == ({app} if app else set())
