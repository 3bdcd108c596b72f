"""Domains: several for an app, one app for each, in force at once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World


@pytest.fixture(scope="module")
def world(shop: Project) -> World:
    """The home in which `shop` is live; nothing has been pushed to `echo`, which answers 503."""
    shop.world.run("load", "echo")
    return shop.world


@contextlib.contextmanager
def domains(world: World, app: str, *names: str) -> Iterator[None]:
    """More domains for an app, for a while."""
    for name in names:
        assert f"{app} is served under" in world.run("domains", "add", app, name)
    try:
        yield
    finally:
        for name in names:
            world.run("domains", "remove", app, name)


def test_several_domains_and_a_wildcard(world: World) -> None:
    names = ("shop.test", "WWW.Shop.Example.", "*.shop.example", "xn--mnchen-3ya.example")
    with domains(world, "shop", *names):
        assert "shop already has shop.test" in world.run("domains", "add", "shop", "shop.test")
        listed = world.json("domains", "list", "shop")
        assert listed == ["shop.localhost", "shop.test", "www.shop.example", *names[2:]]
        assert world.run("domains", "list", "shop").split() == listed
        for host in ("shop.test", "shop.test:80", "SHOP.test", "any.shop.example", *listed):
            name = host.replace("*", "a.b")
            assert "Counter" in world.get(host=name).text, name
        for host in ("shop.example", "www.shop.test", "shop.example.com"):
            assert world.get(host=host).status == 404, host
        # another app's exact name stands before a wildcard
        with domains(world, "echo", "echo.shop.example"):
            until(lambda: world.get(host="echo.shop.example").status == 503, "the other app")
    assert world.json("domains", "list", "shop") == ["shop.localhost"]


def test_an_ipv6_address(world: World) -> None:
    with domains(world, "shop", "[2001:DB8::5]"):
        assert world.json("domains", "list", "shop") == ["shop.localhost", "2001:db8::5"]
        assert "already has 2001:db8::5" in world.run("domains", "add", "shop", "2001:db8:0::5")
        assert "Counter" in world.get(host="[2001:db8::5]").text
        url = world.json("info", "shop")["url"]
        assert url.startswith("http://[2001:db8::5]:")
        assert url in world.run("status", "shop")
        assert url in world.run("restart", "shop"), "the health check names it as well"
        told = world.run("run", "shop", "--", "rpc", "IO.puts(System.get_env(~s(PHX_HOST)))")
        assert told.strip() == "2001:db8::5", "URI of Elixir adds the brackets"
    world.run("restart", "shop")
    done = world.try_run("domains", "add", "shop", "fe80::1%eth0")
    assert done.returncode == Exit.INVALID
    assert "has a zone (%eth0)" in done.stdout


def test_a_change_of_domains_is_in_force_when_its_command_has_ended(world: World) -> None:
    for n in range(4):
        with domains(world, "shop", f"n{n}.test"):
            assert [world.get(host=f"n{n}.test").status for _ in range(20)] == [200] * 20
        assert [world.get(host=f"n{n}.test").status for _ in range(20)] == [404] * 20


def test_the_first_domain_that_was_added_is_the_app_s_own(world: World) -> None:
    with domains(world, "echo", "echo.test", "second.test"):
        assert world.status("echo")["url"] == f"http://echo.test:{world.port}"
        world.run("domains", "remove", "echo", "echo.localhost")
        world.run("domains", "add", "echo", "echo.localhost")
        assert world.status("echo")["url"] == f"http://echo.test:{world.port}"
    assert world.status("echo")["url"] == f"http://echo.localhost:{world.port}"


def test_a_change_of_phx_host_is_told_with_what_brings_it_to_the_app(world: World) -> None:
    def host() -> str:
        ask = "IO.puts(System.get_env(~s(PHX_HOST)))"
        return world.run("run", "shop", "--", "rpc", ask).strip()

    restart = "after the next start: run `gatling restart shop`"
    text = world.run("domains", "add", "shop", "shop.test")
    assert f"PHX_HOST is shop.test {restart}" in text
    assert host() == "shop.localhost"
    world.run("restart", "shop")
    assert host() == "shop.test"

    text = world.run("domains", "add", "shop", "www.shop.test")
    assert "PHX_HOST stays shop.test. Phoenix refuses websockets from www.shop.test" in text
    assert "`gatling config set shop PHX_HOST=DOMAIN`" in text
    assert "PHX_HOST" not in world.run("domains", "remove", "shop", "www.shop.test")

    text = world.run("domains", "remove", "shop", "shop.test")
    assert f"PHX_HOST is shop.localhost {restart}" in text
    world.run("restart", "shop")
    assert host() == "shop.localhost"


def test_phx_host_of_an_app_that_was_not_pushed_yet_or_says_it_itself(world: World) -> None:
    text = world.run("domains", "add", "echo", "echo.test")
    assert text.endswith("PHX_HOST is echo.test.\n")  # nothing to be done
    world.run("config", "set", "echo", "PHX_HOST=other.test")
    text = world.run("domains", "add", "echo", "second.test")
    assert "PHX_HOST keeps the value set with `gatling config`." in text
    for name in ("echo.test", "second.test"):
        assert "PHX_HOST" not in world.run("domains", "remove", "echo", name)
    world.run("config", "unset", "echo", "PHX_HOST")


def test_a_domain_moves_from_one_app_to_another(world: World) -> None:
    with domains(world, "shop", "moved.test"):
        assert world.get(host="moved.test").status == 200
        text = world.run("domains", "add", "echo", "moved.test", "--from", "shop")
        assert "echo is served under moved.test." in text
        assert [world.get(host="moved.test").status for _ in range(10)] == [503] * 10
        again = world.run("domains", "add", "echo", "moved.test", "--from", "shop")
        assert "echo already has moved.test." in again
        # the new app lets in nobody whom the old one kept out
        world.run("auth", "add", "echo", "*", "ann", stdin="secret of ann")
        done = world.try_run("domains", "add", "shop", "moved.test", "--from", "echo")
        assert done.returncode == Exit.INVALID
        assert "echo protects moved.test with passwords, and shop would not." in done.stdout
        world.run("auth", "remove", "echo", "*", "ann")
        world.run("domains", "add", "shop", "moved.test", "--from", "echo")
        assert world.get(host="moved.test").status == 200
    for wrong, why in (
        ("shop.localhost", "is the last domain of shop"),
        ("no.test", "has no domain"),
    ):
        done = world.try_run("domains", "add", "echo", wrong, "--from", "shop")
        assert done.returncode in (Exit.INVALID, Exit.NOT_FOUND)
        assert why in done.stdout


def test_a_domain_has_one_app(world: World) -> None:
    for domain in ("shop.localhost", "Shop.LocalHost."):
        done = world.try_run("domains", "add", "echo", domain)
        assert done.returncode == Exit.INVALID
        assert "belongs to the app shop" in done.stdout
        assert "gatling domains remove shop shop.localhost" in done.stdout
    done = world.try_run("domains", "remove", "echo", "shop.localhost")
    assert done.returncode == Exit.NOT_FOUND
    done = world.try_run("domains", "remove", "echo", "echo.localhost")
    assert done.returncode == Exit.INVALID
    assert "the last domain" in done.stdout
    for bad in ("", "a b", "-x.test", "x..test", "*", "x.*.test", "x;y", "ü.test", "a" * 254):
        assert world.try_run("domains", "add", "echo", "--", bad).returncode == Exit.INVALID, bad
    assert world.json("domains", "list", "echo") == ["echo.localhost"]
    assert "Counter" in world.get().text


def test_a_new_app_whose_own_domain_is_taken(world: World) -> None:
    with domains(world, "shop", "blog.localhost"):
        assert "belongs to the app shop" in world.run("load", "blog", ok=False)
        assert "Counter" in world.get(host="blog.localhost").text
    world.run("load", "blog")
    assert world.get(host="blog.localhost").status == 503
    world.run("unload", "blog", "--confirm", "blog")
