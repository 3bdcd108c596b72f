"""Log drains of a server to a real rsyslog on another machine.

Every line that the journal of the app has must arrive, whatever happens to either machine. The
journal is what the app printed and the disk kept.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.box import Box
    from tests.server.conftest import Boxes
    from tests.server.server import Checkout, Server

NAME = "logs.example.com"
GOT = "/var/log/got.log"
RSYSLOG = f"""\
global(
  DefaultNetstreamDriver="ossl"
  DefaultNetstreamDriverCAFile="/etc/rsyslog.d/chain.pem"
  DefaultNetstreamDriverCertFile="/etc/rsyslog.d/chain.pem"
  DefaultNetstreamDriverKeyFile="/etc/rsyslog.d/key.pem"
)
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="plain" type="string" string="%app-name% %procid% %msgid% %msg%\\n")
input(type="imtcp" port="6514" ruleset="got")
ruleset(name="got") {{ action(type="omfile" file="{GOT}" template="plain") }}
"""
SAYS = """\
  defp answer("/say/" <> from) do
    from = String.to_integer(from)
    for number <- from..(from + 499), do: IO.puts("line ##{number} #{String.duplicate("x", 80)}")
    text(200, "said")
  end

"""
MAX_MEMORY = 64 << 10
"""KiB that the program of a drain may have in memory at most."""


@pytest.fixture(scope="module")
def sink(module_boxes: Boxes, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """Another machine, on which rsyslog takes logs over TLS."""
    box = module_boxes()
    box.online(["apt-get", "update", "-qq"])
    box.online(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "rsyslog",
                "rsyslog-openssl"])  # fmt: skip
    files = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
         "-keyout", files / "key.pem", "-out", files / "chain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in ("key.pem", "chain.pem"):
        box.put(files / name, "/etc/rsyslog.d")
    box.exec(["tee", "/etc/rsyslog.d/00-got.conf"], stdin=RSYSLOG)
    box.exec(["systemctl", "restart", "rsyslog"])
    trust(server, files / "chain.pem", box.ip)
    return box


def trust(server: Server, chain: Path, address: str) -> None:
    """Let the server find and believe the machine of the logs."""
    server.box.exec(["sh", "-c", f"echo {address} {NAME} >> /etc/hosts"])
    place = "/usr/local/share/ca-certificates/logs.crt"
    server.box.exec(["tee", place], stdin=chain.read_text())
    server.box.exec(["update-ca-certificates"])


@pytest.fixture(scope="module")
def talker(server: Server, shop: Checkout, sink: Box) -> Checkout:
    """An app that prints as many numbered lines as it is asked to, and its drain."""
    shop.replace("lib/counter/router.ex", '    "/events" => ["GET"],\n',
                 '    "/events" => ["GET"],\n' + allowed())  # fmt: skip
    shop.replace("lib/counter/router.ex", '  defp answer("/health")',
                 SAYS + '  defp answer("/health")')  # fmt: skip
    shop.commit("talk")
    shop.push()
    server.gatling("drains", "add", "shop", f"syslog+tls://{NAME}:6514")
    return shop


def allowed() -> str:
    """The paths of all lines that the tests have printed."""
    return "".join(f'    "/say/{number}" => ["GET"],\n' for number in range(0, 100_000, 500))


class Lines:
    """The numbers that were printed so far."""

    said = 0

    @classmethod
    def say(cls, server: Server, times: int) -> None:
        for _ in range(times):
            assert server.get(f"/say/{cls.said}").status == 200
            cls.said += 500


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"line #(\d+) ", text)}


def printed(server: Server) -> set[int]:
    """The lines in the journal of the app."""
    return numbers(server.gatling("logs", "shop", "-n", "200000"))


def arrived(sink: Box) -> list[str]:
    """The lines that rsyslog wrote."""
    return sink.exec(["cat", GOT], check=False).stdout.splitlines()


def await_all(server: Server, sink: Box) -> None:
    """Wait until every line of the journal has arrived."""
    wanted = printed(server)
    assert max(wanted) == Lines.said - 1
    try:
        until(lambda: wanted <= numbers("\n".join(arrived(sink))), "the lines", 120, 1)
    except AssertionError as error:
        missing = sorted(wanted - numbers("\n".join(arrived(sink))))
        error.add_note(
            f"{len(arrived(sink))} lines arrived, {len(missing)} did not: {missing[:1]} …"
            f" {missing[-1:]}\n"
            + server.gatling("drains", "list", "shop")
            + sink.exec(["journalctl", "-u", "rsyslog", "-n", "20"], check=False).stdout
            + sink.exec(["ss", "-tlnp"], check=False).stdout
        )
        raise


def await_app(server: Server) -> None:
    """Wait until the app serves again."""

    def serves() -> bool:
        with contextlib.suppress(OSError):
            return server.get("/health").status == 200
        return False

    until(serves, "the app", 180, 1)


def peak(server: Server) -> int:
    """KiB that the drain's program had in memory at most."""
    (drain,) = server.json("drains", "list", "shop")
    pid = server.show(f"gatling-drain@shop.{drain['id']}.service", "MainPID")["MainPID"]
    status = server.box.exec(["cat", f"/proc/{pid}/status"]).stdout
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0])


def test_lines_arrive_with_their_release(server: Server, talker: Checkout, sink: Box) -> None:
    Lines.say(server, 2)
    await_all(server, sink)
    assert f"shop web v2 line #7 {'x' * 80}" in arrived(sink)
    (drain,) = server.json("drains", "list", "shop")
    assert (drain["failures"], drain["error"]) == (0, "")


def test_nothing_is_lost_over_a_reboot(server: Server, talker: Checkout, sink: Box) -> None:
    """The server is rebooted while lines are under way."""
    Lines.say(server, 4)
    server.box.reboot()
    await_app(server)
    Lines.say(server, 1)
    await_all(server, sink)


def test_nothing_is_lost_while_nobody_takes_it(server: Server, talker: Checkout, sink: Box) -> None:
    """The receiver is down, and the server loses its power before it is back."""
    # its socket would start it again for any message of the machine
    sink.exec(["systemctl", "stop", "syslog.socket", "rsyslog.service"])
    Lines.say(server, scaled(10, 40))
    until(lambda: server.json("drains", "list", "shop")[0]["failures"] > 1, "failures", 60)
    assert NAME in server.json("drains", "list", "shop")[0]["error"]
    server.box.exec(["journalctl", "--namespace=gatling-shop", "--sync"])
    server.box.crash()
    server.box.start()
    await_app(server)
    Lines.say(server, 1)
    until(lambda: server.json("drains", "list", "shop")[0]["failures"] > 0, "failures", 120)
    assert peak(server) < MAX_MEMORY
    sink.exec(["systemctl", "start", "syslog.socket", "rsyslog.service"])
    await_all(server, sink)
    until(lambda: server.json("drains", "list", "shop")[0]["failures"] == 0, "a success", 60)


def test_a_slow_receiver_holds_up_nothing(server: Server, talker: Checkout, sink: Box) -> None:
    """rsyslog stands still, so that its machine acknowledges only what its buffers hold."""
    sink.exec(["systemctl", "kill", "--signal=STOP", "rsyslog"])
    begun = time.monotonic()
    Lines.say(server, scaled(20, 80))
    assert time.monotonic() - begun < 60
    until(lambda: server.json("drains", "list", "shop")[0]["failures"] > 0, "a failure", 120)
    assert "no answer in time" in server.json("drains", "list", "shop")[0]["error"]
    assert peak(server) < MAX_MEMORY
    sink.exec(["systemctl", "kill", "--signal=CONT", "rsyslog"])
    await_all(server, sink)
    assert peak(server) < MAX_MEMORY


def test_the_receiver_loses_its_network(server: Server, talker: Checkout, sink: Box) -> None:
    """No packet comes back, not even a refusal."""
    sink.unplug()
    Lines.say(server, 2)
    until(lambda: server.json("drains", "list", "shop")[0]["failures"] > 0, "a failure", 120)
    sink.plug()
    await_all(server, sink)
