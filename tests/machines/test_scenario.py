"""One life of a server on a real kernel: what boxes cannot show, in the order of the tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conftest import until
from tests.server.whole import check_whole, recovered, shown

if TYPE_CHECKING:
    from tests.server.server import Checkout, Person, Server

SECONDS = 600
"""All is about ten times as slow as on the machine itself."""


LACKING = (
    "FAIL  units: gatling-ports.service has failed.",
    "FAIL  network: The kernel's table of guarded ports lacks ",
    "FAIL  network: The user nobody reaches ",
)
"""Findings about nftables, of which Debian's User-Mode Linux has no family of tables."""


def check(server: Server) -> None:
    """`server check` finds nothing but what User-Mode Linux lacks."""
    said = server.box.exec(["gatling", "server", "check"], check=False).stdout
    failed = [line for line in said.splitlines() if line.startswith("FAIL")]
    assert [line for line in failed if not line.startswith(LACKING)] == [], said


def test_the_check_finds_nothing(server: Server, ann: Person) -> None:
    check(server)
    ann.run("whoami")
    assert server.box.exec(["stat", "-f", "-c", "%T", "/sys/fs/cgroup"]).stdout == "cgroup2fs\n"


def test_a_push_and_a_hot_upgrade(server: Server, shop: Checkout) -> None:
    before = server.status()
    with server.client(pause=0.05) as client:
        shop.title("Second")
        assert " is live (hot upgrade) in " in shop.push()
        until(lambda: "Second" in client.texts[-1], "the new page", SECONDS)
    assert client.failures == []
    assert server.status()["pid"] == before["pid"]


def test_a_rollback(server: Server, ann: Person, shop: Checkout) -> None:
    before = server.status()
    with server.client(pause=0.05) as client:
        ann.run("rollback", "shop")
        until(lambda: "Second" not in client.texts[-1], "the page before", SECONDS)
    assert client.failures == []
    assert server.status()["pid"] == before["pid"]


def test_an_instance_binds_its_own_port_alone(ann: Person, shop: Checkout) -> None:
    """Of those that apps are given: the kernel refuses another app's, and epmd's."""
    for port in (29999, 4369):
        listen = f"IO.inspect(:gen_tcp.listen({port}, []))"
        assert "{:error, :eperm}" in ann.run("run", "shop", "--", "rpc", listen)
    assert "{:ok, " in ann.run("run", "shop", "--", "rpc", "IO.inspect(:gen_tcp.listen(18080, []))")


def test_memory_over_the_limit_ends_an_instance_with_its_cause(
    server: Server, ann: Person, shop: Checkout
) -> None:
    ann.run("settings", "set", "shop", "limits.memory=150M")
    ann.run("restart", "shop")
    ann.run("run", "shop", "--", "rpc", ":binary.copy(<<1>>, 400_000_000)", status=1)
    until(lambda: server.status().get("last_end") and server.serves(""), "another one", SECONDS)
    assert "memory (limit 150M)" in server.status()["last_end"]["cause"]
    assert "memory (limit 150M)" in ann.run("logs", "shop")
    ann.run("settings", "unset", "shop", "limits.memory")
    ann.run("restart", "shop")


def test_a_reboot(server: Server, shop: Checkout) -> None:
    before = server.status()
    server.box.reboot(SECONDS)
    until(lambda: server.serves(""), "the app", SECONDS)
    recovered(server)
    after = server.status()
    assert (after["release"], after["state"]) == (before["release"], "running")
    check(server)


def test_a_power_cut_during_a_hot_upgrade(server: Server, shop: Checkout) -> None:
    """Everything that was not written to the disk is lost."""
    old = server.status()["commit"]
    new = shop.title("Third")
    with server.until_step("hot_swap"):
        push = shop.start_push()
    try:
        server.box.crash()
    finally:
        push.kill()
        push.communicate()
    server.box.start(SECONDS)
    until(lambda: shown(server, "shop"), "the app after the boot", SECONDS)
    recovered(server)
    check_whole(server, shop, old=old, new=new)
    assert re.search(r"=====> shop v\d+ is live", shop.push())
    assert shown(server) == "Third"


def test_it_can_be_taken_away(server: Server) -> None:
    hostname = server.box.exec(["hostname"]).stdout.strip()
    server.gatling("server", "uninstall", "--purge", "--confirm", hostname)
    places = "/var/lib/gatling /etc/gatling /etc/systemd/system/*gatling* /etc/nginx/*/*gatling*"
    left = server.box.exec(["sh", "-c", f"ls -d {places}; grep gatling /etc/passwd"], check=False)
    assert left.stdout == ""
    server.box.exec(["nginx", "-t"])
    server.box.exec(["sshd", "-t"])
