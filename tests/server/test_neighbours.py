"""Apps on one host: nobody reaches another's ports, and what ends is started again and told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import until

if TYPE_CHECKING:
    from tests.server.server import Checkout, Person, Server

HANDSHAKES = """
import socket, struct, sys, time
port, seconds, done, tried = int(sys.argv[1]), float(sys.argv[2]), 0, 0
FLAGS = sum(1 << bit for bit in (2, 4, 7, 8, 9, 10, 11, 16, 17, 18, 24, 25, 34))
end = time.monotonic() + seconds
while time.monotonic() < end:
    tried += 1
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            name = b"n%d@127.0.0.1" % tried
            text = struct.pack(">cQIH", b"N", FLAGS, 7, len(name)) + name
            s.sendall(struct.pack(">H", len(text)) + text)
            done += b"ok" in s.recv(64)
    except OSError:
        pass
print(done, "of", tried)
"""
SQUAT = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", int(sys.argv[1])))
s.listen(1)
print("bound", flush=True)
s.settimeout(float(sys.argv[2]))
try:
    print("STOLEN", s.accept()[0].recv(100))
except TimeoutError:
    print("nobody came")
"""
SIX = """
import socket, sys, time
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6)
while True:
    s.accept()[0].close()
"""


@pytest.fixture(scope="module")
def blog(ann: Person) -> Checkout:
    """Another app, to which nothing has been pushed: its user is there."""
    ann.run("load", "blog")
    return ann.project("blog")


def ports(server: Server) -> tuple[int, int]:
    """Where the live instance of shop answers, and its node."""
    status = server.status()
    listening = server.box.exec(["ss", "-Hltnp"]).stdout.splitlines()
    own = [line.split()[3] for line in listening if f"pid={status['pid']}," in line]
    node = [int(place.rpartition(":")[2]) for place in own if place.startswith("127.0.0.1:")]
    assert len(node) == 1
    return status["port"], node[0]


def handshakes(server: Server, user: str, seconds: float = 3) -> tuple[int, int]:
    """How many handshakes with shop's node a user made, and how many were tried."""
    argv = ["python3", "-c", HANDSHAKES, str(ports(server)[1]), str(seconds)]
    done, _, tried = server.box.exec(argv, user=user).stdout.split()
    return int(done), int(tried)


def test_a_neighbour_makes_no_handshake_with_another_apps_node(
    server: Server, shop: Checkout, blog: Checkout
) -> None:
    done, tried = handshakes(server, "gatling-blog")
    assert (done, tried > 100) == (0, True)
    assert handshakes(server, "nobody", 1)[0] == 0
    assert handshakes(server, "gatling-shop", 1)[0] > 0
    curl = ["curl", "-sS", "-o", "/dev/null", f"http://127.0.0.1:{ports(server)[0]}/"]
    assert server.box.exec(curl, user="gatling-blog", check=False).returncode == 7
    assert server.box.exec(curl, user="gatling").returncode == 0
    assert server.serves("")
    shop.title("Neighbours")
    assert " is live (hot upgrade) in " in shop.push()


def test_nothing_of_an_app_or_node_answers_the_network(server: Server, shop: Checkout) -> None:
    for port in (*ports(server), 4369):
        with pytest.raises(OSError), server.box.bed.lan.connect(server.box.ip, port, 2):  # noqa: PT011
            pass
    assert server.box.exec(["ss", "-Hltn", "sport", "=", ":4369"]).stdout == ""


def test_check_tries_it(server: Server, ann: Person, shop: Checkout) -> None:
    assert "ok    network: apps and nodes are closed" in server.gatling("server", "check")
    http = ports(server)[0]
    server.box.exec(["nft", "delete", "table", "inet", "gatling"])
    said = server.gatling("server", "check", status=Exit.HOST)
    assert f"FAIL  network: The user nobody reaches shop on {server.box.ip}, port {http}." in said
    assert "`systemctl restart gatling-ports.service`" in said
    # over IPv6 as well, also on the addresses of one link
    listens = ["systemd-run", "--quiet", "--unit=six", "--uid=gatling-shop", "python3", "-c", SIX]
    spare = ports(server)[1]
    server.box.exec([*listens, str(spare)])
    said = server.gatling("server", "check", status=Exit.HOST)
    assert f"reaches shop on ::1, port {spare}." in said
    assert re.search(rf"reaches shop on fe80:[0-9a-f:]+%\w+, port {spare}\.", said)
    server.box.exec(["systemctl", "restart", "gatling-ports.service"])
    server.gatling("server", "check")
    server.box.exec(["systemctl", "stop", "six.service"])
    server.box.exec(["sysctl", "-q", "net.ipv4.tcp_syncookies=2"])
    said = server.gatling("server", "check", status=Exit.HOST)
    assert "FAIL  network: net.ipv4.tcp_syncookies is 2" in said
    server.box.exec(["sysctl", "-q", "net.ipv4.tcp_syncookies=1"])


def test_the_table_outlives_nftables_own_restart(server: Server, shop: Checkout) -> None:
    server.box.exec(["systemctl", "start", "nftables.service"])
    for verb in ("restart", "reload"):
        server.box.exec(["systemctl", verb, "nftables.service"])
        until(lambda: handshakes(server, "nobody", 0.2)[0] == 0, f"the table after {verb}")
    server.box.exec(["systemctl", "stop", "nftables.service"])
    server.box.exec(["systemctl", "start", "gatling-ports.service"])


def test_who_takes_the_port_of_an_app_that_is_down_is_given_no_request(
    server: Server, ann: Person, shop: Checkout, blog: Checkout
) -> None:
    http, _ = ports(server)
    slot = server.status()["slot"]
    server.box.exec(["systemctl", "stop", f"gatling@shop.{slot}.service"])  # as in a crash
    server.box.exec(["systemd-run", "--quiet", "--unit=squat", "-p", "User=gatling-blog",
                     "/usr/bin/python3", "-c", SQUAT, str(http), "8"])  # fmt: skip
    until(lambda: "bound" in server.box.journal("-u", "squat"), "squatter")
    assert server.get().status in (502, 503, 504)
    until(lambda: "nobody came" in server.box.journal("-u", "squat"), "the end of the squatter")
    assert "STOLEN" not in server.box.journal("-u", "squat")
    ann.run("start", "shop")
    assert server.serves("")


def restarts(server: Server) -> int:
    return int(server.status()["restarts"])


def test_an_end_that_nobody_asked_for_is_told_everywhere(
    server: Server, ann: Person, shop: Checkout
) -> None:
    before = restarts(server)
    server.box.exec(["kill", "-KILL", str(server.status()["pid"])])
    until(lambda: restarts(server) == before + 1 and server.serves(""), "another instance")
    assert server.status()["last_end"]["cause"].startswith("killed by SIGKILL")
    assert re.search(
        r"-- instance killed by SIGKILL.* after .*; restart \d", ann.run("logs", "shop")
    )
    assert "in the last hour; last " in ann.run("status", "shop")
    assert f"running ({before + 1} restart" in ann.run("apps")


def test_memory_that_is_over_its_limit_is_named(
    server: Server, ann: Person, shop: Checkout
) -> None:
    ann.run("settings", "set", "shop", "limits.memory=150M")
    ann.run("restart", "shop")
    ann.run("run", "shop", "--", "rpc", ":binary.copy(<<1>>, 400_000_000)", status=1)
    until(lambda: restarts(server) > 0 and server.serves(""), "another instance")
    assert "memory (limit 150M)" in server.status()["last_end"]["cause"]
    assert "memory (limit 150M)" in ann.run("logs", "shop")


def test_a_slow_launcher_is_not_taken_for_a_crash(
    server: Server, ann: Person, shop: Checkout
) -> None:
    ann.run("settings", "set", "shop", "limits.cpu=10%", "health.timeout=300")
    ann.run("restart", "shop")
    ann.run("settings", "unset", "shop", "limits.cpu", "limits.memory", "health.timeout")
    ann.run("restart", "shop")
    assert restarts(server) == 0


def test_all_is_closed_again_after_a_reboot(server: Server, shop: Checkout) -> None:
    server.box.reboot()
    until(lambda: server.serves(""), "the app")
    assert handshakes(server, "gatling-blog", 1)[0] == 0
    assert "FAIL" not in server.gatling("server", "check")
    assert "Special user nobody configured" not in server.box.journal(lines=2000)
