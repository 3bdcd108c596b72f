"""Jobs on a server: timers of systemd's, runs as the app's user in its sandbox, and their ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit
from tests.conftest import until
from tests.server.test_server import MAY_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.server import Checkout, Person, Server

NEVER = "0 0 29 2 *"
SLEEPS = "eval 'IO.puts(:up); Process.sleep(1000000)'"
PROBE = """eval '
 paths = [~s(%s/x), ~s(/tmp/x), ~s(/etc/x), ~s(/var/lib/gatling/home/x)];
 IO.inspect({System.get_env("GATLING_PROCESS"), System.cmd("id", ["-un"]) |> elem(0),
 Enum.map(paths, &File.write(&1, ~s(x))),
 File.read(~s(/var/lib/gatling/home/state.db)) |> elem(0)}, width: 999)'"""


@pytest.fixture(scope="module")
def ann(server: Server) -> Person:
    return server.let_in("ann", "shop", "gone")


def job(
    ann: Person, name: str, command: str, cron: str = NEVER, app: str = "shop", **more: Any
) -> None:
    values = {"cron": cron, "command": command.replace("\n", ""), **more}
    pairs = [f"schedule.{name}.{key}={value}" for key, value in values.items()]
    assert "applied" in ann.run("settings", "set", app, *pairs)


def no_job(ann: Person, name: str) -> None:
    known = ann.json("settings", "list", "shop")
    keys = [key for key in known if key.startswith(f"schedule.{name}.")]
    ann.run("settings", "unset", "shop", *[k for k in keys if k.endswith((".cron", ".command"))])


def outcomes(ann: Person, name: str, app: str = "shop") -> list[str]:
    """The oldest first."""
    done = ann.try_run("jobs", "runs", app, name, "--json")
    return [run["outcome"] for run in reversed(json.loads(done.stdout or "[]"))]


def timers(server: Server) -> list[str]:
    shown = server.box.exec(
        ["systemctl", "list-units", "--plain", "--no-legend", "gatling-job@*.timer"]
    ).stdout
    return [line.split()[0] for line in shown.splitlines()]


def run_units(server: Server) -> list[str]:
    shown = server.box.exec(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "gatling-job-*",
         "gatling-run-*"]
    ).stdout  # fmt: skip
    return [line.split()[0] for line in shown.splitlines()]


def fire(server: Server, name: str, app: str = "shop") -> None:
    """What its timer does."""
    server.box.exec(["systemctl", "start", f"gatling-job@{app}.{name}.service"])


def has_begun(ann: Person, name: str, app: str = "shop") -> Callable[[], bool]:
    return lambda: " up\n" in ann.try_run("logs", app, "--job", name).stdout


def test_a_timer_fires(server: Server, ann: Person, shop: Checkout) -> None:
    job(ann, "probe", PROBE % MAY_WRITE.format("shop"), cron="* * * * *")
    assert timers(server) == ["gatling-job@shop.probe.timer"]
    until(lambda: "succeeded" in outcomes(ann, "probe"), "a run", 300)
    *_, run = ann.json("jobs", "runs", "shop", "probe")
    assert (run["cause"], run["actor"]) == ("schedule", None)
    assert float(run["started_at"][17:-1]) < 45, "not at the beginning of the minute"
    text = ann.run("logs", "shop", "--job", "probe")
    assert '{"probe", "gatling-shop\\n", [:ok, :ok, {:error, ' in text
    assert text.count("{:error, ") == 2
    assert text.splitlines()[1].endswith(", :error}")
    assert text.splitlines()[1].split()[1] == server.status()["release"]
    until(lambda: run_units(server) == [], "the end of its units")
    no_job(ann, "probe")
    assert timers(server) == []
    until(lambda: server.processes("gatling") == [], "the end of what was asked")


def test_a_second_firing_is_seen(server: Server, ann: Person, shop: Checkout) -> None:
    job(ann, "long", SLEEPS)
    fire(server, "long")
    until(has_begun(ann, "long"), "the run", 60)
    fire(server, "long")
    until(lambda: outcomes(ann, "long") == ["running", "skipped"], "the second", 60)
    ann.run("settings", "set", "shop", "schedule.long.overlap=wait")
    fire(server, "long")
    fire(server, "long")
    until(lambda: outcomes(ann, "long") == ["running", "skipped", "skipped"], "the others", 60)

    def under_way() -> list[int]:
        kinds = "gatling-job-shop.long.", "gatling-run-shop."
        return [len([u for u in run_units(server) if u.startswith(kind)]) for kind in kinds]

    until(lambda: under_way() == [2, 1], "one that runs, and one that waits", 180)
    ann.run("jobs", "cancel", "shop", "long")
    until(lambda: run_units(server) == [], "their end", 60)
    assert outcomes(ann, "long") == ["cancelled", "skipped", "skipped"]
    assert ann.json("audit", "shop")[0]["action"] == "jobs cancel"


def test_by_hand(server: Server, ann: Person, shop: Checkout) -> None:
    job(ann, "hand", "eval 'IO.puts(:here)'")
    assert ann.run("jobs", "run", "shop", "hand") == "here\n"
    job(ann, "bad", "eval 'IO.puts(:here); System.halt(3)'")
    assert "exited with status 3" in ann.run("jobs", "run", "shop", "bad", status=Exit.FAILURE)
    job(ann, "slow", SLEEPS, timeout="3")
    text = ann.run("jobs", "run", "shop", "slow", status=Exit.FAILURE)
    assert "did not end within 3 seconds" in text
    assert outcomes(ann, "slow") == ["timed out"]
    job(ann, "lost", SLEEPS)
    with ann.session("jobs", "run", "shop", "lost"):
        until(has_begun(ann, "lost"), "the run", 60)
    until(lambda: outcomes(ann, "lost") == ["cancelled"], "its end", 60)
    until(lambda: run_units(server) == [], "the end of its units", 180)
    reader = server.let_in("rita", role="reader")
    assert reader.json("jobs", "list", "shop")
    for words in (("run", "shop", "hand"), ("cancel", "shop", "hand")):
        reader.run("jobs", *words, status=Exit.REFUSED)
    ann.run("job", "shop.hand", status=Exit.REFUSED)


def test_deployments_leave_a_run_alone(server: Server, ann: Person, shop: Checkout) -> None:
    job(ann, "through", SLEEPS)
    fire(server, "through")
    until(has_begun(ann, "through"), "the run", 60)
    before = run_units(server)
    ann.run("settings", "set", "shop", "deploy.strategy=rolling")
    shop.title("Beside a job")
    shop.push()
    shop.write("gatling.toml", '[health]\npath = "/no"\n')
    shop.replace("lib/counter/page.ex", "def title", "def title(")
    shop.commit()
    shop.push(ok=False)
    assert run_units(server) == before
    assert outcomes(ann, "through") == ["running"]
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    # the one that attends to it is killed: root's helper ends the program
    (pid,) = server.box.exec(
        ["pgrep", "-u", "gatling", "-f", "gatling job shop.through"]
    ).stdout.split()
    server.box.exec(["kill", "-9", pid])
    until(lambda: run_units(server) == [], "the end", 60)
    assert outcomes(ann, "through") == ["interrupted"]


def test_a_stopped_app_and_a_reboot(server: Server, ann: Person, shop: Checkout) -> None:
    job(ann, "kept", SLEEPS)
    unit = "gatling-job@shop.kept.timer"
    ann.run("stop", "shop")
    assert timers(server) == []
    ann.run("start", "shop")
    assert unit in timers(server)
    fire(server, "kept")
    until(has_begun(ann, "kept"), "the run", 60)
    server.box.reboot()
    assert unit in timers(server)
    assert server.show(unit, "ActiveState", "Result") == {
        "ActiveState": "active",
        "Result": "success",
    }
    assert outcomes(ann, "kept")[0] in ("cancelled", "failed", "interrupted")
    until(lambda: server.serves(""), "the app", 60)
    fire(server, "kept")
    until(lambda: outcomes(ann, "kept")[1:] == ["running"], "the run", 60)
    ann.run("jobs", "cancel", "shop", "kept")
    server.gatling("server", "check")
    server.box.exec(["systemctl", "stop", unit])
    assert f"{unit} is inactive" in server.gatling("server", "check", status=Exit.HOST)
    server.gatling("recover", "--units")
    server.gatling("server", "check")


def test_an_app_that_is_removed_leaves_no_timer(server: Server, shop: Checkout) -> None:
    admin = server.admin("eve")
    admin.project("gone").push()
    job(admin, "last", SLEEPS, cron="0 3 * * *", app="gone")
    fire(server, "last", "gone")
    until(has_begun(admin, "last", "gone"), "the run", 60)
    assert "gatling-job@gone.last.timer" in timers(server)
    admin.run("unload", "gone", "--confirm", "gone")
    assert not [unit for unit in timers(server) if "gone" in unit]
    assert [unit for unit in run_units(server) if "gone" in unit] == []
    found = server.box.exec(["find", "/var/lib/gatling", "/etc/systemd", "-name", "*gone*"])
    assert found.stdout == ""


def test_an_installation_that_is_taken_away(server: Server, ann: Person, shop: Checkout) -> None:
    job(ann, "taken", SLEEPS)
    assert "gatling-job@shop.taken.timer" in timers(server)
    fire(server, "taken")
    until(lambda: outcomes(ann, "taken") == ["running"], "a run", 180)
    server.gatling("server", "uninstall", "--confirm", server.box.name)
    assert timers(server) == []
    assert run_units(server) == []
    found = server.box.exec(["find", "/etc/systemd", "-name", "*gatling*"])
    assert found.stdout == ""
    server.box.exec(["/opt/gatling/bin/gatling", "server", "install"])
    assert "gatling-job@shop.taken.timer" in timers(server)
