"""A Gatling host in daily use: two deployers and their apps, over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.restarts import HOPELESS
from gatling.ssh.sessions import LIMITS
from tests.conftest import until
from tests.server.host import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.server import Checkout, Person, Server

BUSY = (
    "until = System.monotonic_time(:millisecond) + 2000;"
    " {before, _} = :erlang.statistics(:runtime);"
    " spin = fn spin -> System.monotonic_time(:millisecond) < until && spin.(spin) end;"
    " spin.(spin);"
    " IO.puts(div(elem(:erlang.statistics(:runtime), 0) - before, 20))"
)
"""Prints of how much of a processor a loop gets, in percent."""

READERS = """
import socket, time
held = [socket.socket(socket.AF_UNIX) for _ in range(80)]
for one in held:
    one.connect("/run/gatling/logs.sock")
    one.send(bytes([0, 0, 128, 0]))
print("held", flush=True)
while True:
    for one in held:
        try:
            one.send(b" ")
        except OSError:
            pass
    time.sleep(2)
"""
"""More connections than are allowed, each with a request that never ends."""

NOISE = (
    "for _ <- 1..5000, do: IO.puts(:user, Base.encode64(:rand.bytes(30_000)));"
    ' IO.puts(:user, "end of noise")'
)
"""200 MB that cannot be compressed."""
HURRIED = """
for _ in $(seq 600); do
  [ "$(wc -l < "$1/ends")" -lt "$2" ] || exit 0
  kill -9 "$(cat "$1/pause")"
  sleep 0.3
done 2>/dev/null
"""
"""Kills what waits to start an instance again, until that has ended so often."""
MAY_WRITE = "/var/lib/gatling/apps/{}/state"


@pytest.fixture(scope="module", autouse=True)
def boots_quickly() -> None:
    """Instances boot as they do by default."""


@pytest.fixture(scope="module")
def ann(server: Server) -> Person:
    return server.let_in("ann", "shop")


@pytest.fixture(scope="module")
def bob(server: Server) -> Person:
    return server.let_in("bob", "blog")


@pytest.fixture(scope="module")
def shop(ann: Person) -> Checkout:
    """Ann's app, which her first push has made."""
    project = ann.project("shop")
    text = project.push()
    assert "shop is new" in text
    assert "=====> shop v1 is live (first start) in " in text
    assert "\n       http://shop.localhost\n" in text
    return project


@pytest.fixture(scope="module")
def blog(bob: Person) -> Checkout:
    project = bob.project("blog")
    project.push()
    return project


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Wait until a program that goes on has printed this."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    seen = ""

    def came() -> bool:
        nonlocal seen
        with contextlib.suppress(BlockingIOError):
            seen += os.read(process.stdout.fileno(), 65536).decode(errors="replace")  # type: ignore[union-attr]
        return text in seen

    until(came, f"{text!r} after {seen!r}", 120)


def release_now(server: Server, app: str = "shop") -> str:
    label: str = server.status(app)["release"]
    return label


def test_a_push_upgrades_hot_and_a_rollback_goes_back(
    server: Server, ann: Person, shop: Checkout
) -> None:
    before = server.status()
    with server.client(threads=2) as client:
        shop.title("Autumn")
        text = shop.push()
        assert " is live (hot upgrade) in " in text
        until(lambda: client.texts and "Autumn" in client.texts[-1], "the new page")
        ann.run("rollback", "shop")
        until(lambda: "Autumn" not in client.texts[-1], "the old page")
    assert client.failures == []
    after = server.status()
    assert (after["pid"], after["release"]) == (before["pid"], before["release"])
    last = server.last()
    assert (last["strategy"], last["outcome"], last["probe"]["failed"]) == ("hot", "succeeded", 0)
    other = f"gatling@shop.{3 - after['slot']}.service"
    stopped = {"ActiveState": "inactive", "Result": "success"}
    until(lambda: server.show(other, *stopped) == stopped, "the end of what checked the boot")
    deploys = [one for one in ann.json("audit", "shop") if one["action"] == "deploy"]
    assert deploys[0]["actor"] == "ann"


def test_a_rolling_deployment(server: Server, ann: Person, shop: Checkout) -> None:
    slot = server.status()["slot"]
    with server.client(threads=2) as client:
        ann.run("restart", "shop")
    assert client.failures == []
    assert server.status()["slot"] == 3 - slot
    state = server.show(f"gatling@shop.{slot}.service", "ActiveState", "MainPID")
    assert state == {"ActiveState": "inactive", "MainPID": "0"}


def test_what_was_upgraded_hot_is_restarted_as_what_it_has_become(
    server: Server, shop: Checkout
) -> None:
    shop.title("Killed")
    shop.push()
    live = server.status()
    server.box.exec(["kill", "-9", str(live["pid"])])
    until(lambda: server.status()["pid"] not in (None, live["pid"]), "another process")
    until(lambda: server.serves("Killed"), "the live release")
    assert server.status()["release"] == live["release"]


def test_after_a_reboot_all_is_as_it_was(server: Server, shop: Checkout, blog: Checkout) -> None:
    shop.title("Before the reboot")
    shop.push()
    live = [release_now(server, app) for app in ("shop", "blog")]
    server.box.reboot()
    until(
        lambda: server.serves("Before the reboot", "shop") and server.serves("", "blog"),
        "both apps", 60,
    )  # fmt: skip
    assert [release_now(server, app) for app in ("shop", "blog")] == live
    assert server.show("gatling-recover.service", "Result")["Result"] == "success"
    until(lambda: server.processes("gatling") == [], "nothing of Gatling's own goes on")


def test_an_app_that_was_stopped_stays_so(
    server: Server, bob: Person, shop: Checkout, blog: Checkout
) -> None:
    bob.run("stop", "blog")
    assert server.get(host="blog.localhost").status == 503
    server.box.reboot()
    until(lambda: server.serves(""), "the other app", 60)
    assert server.get(host="blog.localhost").status == 503
    assert bob.json("status", "blog")["state"] == "stopped"
    bob.run("start", "blog")
    assert server.serves("", "blog")


def test_logs_are_the_journals_with_time_and_release(
    server: Server, ann: Person, shop: Checkout
) -> None:
    live = release_now(server)
    lines = ann.run("logs", "shop", "-n", "1000").splitlines()
    assert lines
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z v\d+ ", line) for line in lines), lines
    of_live = ann.run("logs", "shop", "--release", live).splitlines()
    assert of_live
    assert {line.split()[1] for line in of_live} == {live}
    ann.run("run", "shop", "--", "rpc", 'for n <- 1..9, do: IO.puts(:user, "said #{n}")')

    def recent(*words: str) -> list[str]:
        seen = ann.run("logs", "shop", "--since", "1h", *words).splitlines()
        return [line.split(" ", 2)[2] for line in seen]

    said = [f"said {n}" for n in range(1, 10)]
    until(lambda: recent("-n", "3") == said[-3:], "the last lines")  # not the first of the hour
    assert recent("-n", "3", "--release", live) == said[-3:]
    assert recent()[-9:] == said
    assert recent("-n", "1", "--since", "2000-01-01T00:00") == said[-1:]
    assert recent("--since", "0s") == []
    with ann.session("logs", "shop", "-f", "--since", "1h", "-n", "2") as following:
        read_until(following, "said 9")
    with ann.session("logs", "shop", "-f", "-n", "0") as following:
        assert following.stdout is not None
        heard = [following.stdout]

        def printed() -> bool:
            ann.run("run", "shop", "--", "rpc", ":logger.error(~c'here I am')")
            return bool(select.select(heard, [], [], 5)[0])

        until(printed, "a line that is followed")
        assert "here I am" in following.stdout.readline()
    until(lambda: not [p for p in server.processes("root") if "journalctl" in p], "its end")


def test_readers_of_logs_keep_no_deployment_waiting(
    server: Server, ann: Person, shop: Checkout
) -> None:
    server.box.exec(["systemd-run", "--quiet", "--collect", "--unit=readers", "-p", "User=gatling",
                     "/usr/bin/python3", "-c", READERS])  # fmt: skip
    until(lambda: "held" in server.box.journal("-u", "readers"), "as many readers as there may be")
    try:
        refused = ann.run("logs", "shop", status=Exit.HOST)
        assert "too many commands read logs" in refused
        ann.run("restart", "shop")
    finally:
        server.box.exec(["systemctl", "stop", "readers"])
    until(lambda: ann.try_run("logs", "shop").returncode == 0, "free connections")
    noted = server.box.journal("-u", "gatling-helper", "-o", "cat", lines=200)
    assert re.search(
        r"^start app=shop slot=[12] by=ann \(pid \d+, uid \d+\): done in", noted, re.MULTILINE
    )


def test_a_noisy_app_takes_no_room_from_the_logs_of_others(
    server: Server, ann: Person, bob: Person, shop: Checkout, blog: Checkout
) -> None:
    small = server.box.root / "etc/systemd/journald.conf.d/small.conf"
    small.parent.mkdir(exist_ok=True)
    small.write_text("[Journal]\nSystemMaxUse=16M\nRuntimeMaxUse=16M\n")
    server.box.exec(["systemctl", "restart", "systemd-journald.service"])
    bob.run("run", "blog", "--", "rpc", 'IO.puts(:user, "still here")')
    until(lambda: "still here" in bob.run("logs", "blog"), "the line of the neighbour")
    server.box.exec(["logger", "--tag", "operator", "of the host"])
    ann.run("run", "shop", "--", "rpc", NOISE)
    until(lambda: "end of noise" in ann.run("logs", "shop", "-n", "1"), "the last line")
    assert "still here" in bob.run("logs", "blog")
    assert "of the host" in server.box.journal("-t", "operator")
    own = server.box.exec(["sh", "-c", "du -sm /var/log/journal/*.gatling-shop"]).stdout
    assert int(own.split()[0]) <= 110
    small.unlink()
    server.box.exec(["systemctl", "restart", "systemd-journald.service"])


def test_one_key_has_a_limited_number_of_sessions(server: Server, shop: Checkout) -> None:
    rob = server.let_in("rob", role="reader")
    with contextlib.ExitStack() as sessions:
        for _ in range(LIMITS["reader"]):
            following = sessions.enter_context(rob.session("logs", "shop", "-f", "-n", "1"))
            read_until(following, "Z v")
        assert "rob has 16 sessions open" in rob.run("apps", status=Exit.REFUSED)
        newest = server.json("audit")[0]
        assert (newest["actor"], newest["detail"]) == ("rob", "too many sessions")
    until(lambda: rob.try_run("apps").returncode == 0, "the end of a session")
    server.gatling("server", "keys", "remove", "rob")


def test_one_off_commands_and_their_exit_status(
    server: Server, ann: Person, shop: Checkout
) -> None:
    assert ann.run("run", "shop", "--", "rpc", "IO.puts(node())") == "counter@127.0.0.1\n"
    echoed = ann.run("run", "shop", "--", "eval", "IO.puts(IO.read(:line))", stdin="a word\n")
    assert echoed.strip() == "a word"
    ann.run("run", "shop", "--", "eval", "System.halt(7)", status=7)
    (uid,) = {
        line for line in ann.run(
            "run", "shop", "--", "eval", 'IO.puts(elem(System.cmd("id", ["-un"]), 0))'
        ).splitlines() if line
    }  # fmt: skip
    assert uid == "gatling-shop"


def test_a_program_that_systemd_does_not_start_counts_as_failed(
    server: Server, ann: Person, shop: Checkout
) -> None:
    units = "/run/systemd/system"
    broken = f"{units}/broken.service"
    drop_in = f"{units}/gatling-run-.service.d/broken.conf"
    fails = "[Service]\nType=oneshot\nExecStart=/bin/false\n"
    needs = "[Unit]\nRequires=broken.service\nAfter=broken.service\n"
    for file, text in ((broken, fails), (drop_in, needs)):
        server.box.exec(["install", "-D", "--mode=644", "/dev/stdin", file], stdin=text)
    server.box.exec(["systemctl", "daemon-reload"])
    said = ann.run("run", "shop", "--", "eval", "IO.puts(:here)", status=Exit.HOST)
    assert "could not be started" in said
    server.box.exec(["rm", broken, drop_in])
    server.box.exec(["systemctl", "daemon-reload"])
    assert ann.run("run", "shop", "--", "eval", "IO.puts(:here)") == "here\n"


def test_a_console_has_a_terminal(server: Server, ann: Person, shop: Checkout) -> None:
    with ann.session("console", "shop", tty=True) as console:
        read_until(console, ")1> ")  # what is typed before is lost
        assert console.stdin is not None
        console.stdin.write('IO.puts("sum " <> to_string(20 + 22))\r')
        console.stdin.flush()
        read_until(console, "sum 42")
    until(lambda: "remsh" not in " ".join(server.processes("gatling-shop")), "its end")
    done = ann.try_run("apps", tty=True)
    assert done.returncode == Exit.INVALID
    assert "-t" in done.stdout + done.stderr


def test_who_may_do_what(
    server: Server, ann: Person, bob: Person, shop: Checkout, blog: Checkout
) -> None:
    reader = server.let_in("rita", role="reader")
    assert {a["app"] for a in reader.json("apps")} >= {"shop", "blog"}
    assert [a["app"] for a in bob.json("apps")] == ["blog"]
    before = (server.last("shop"), server.last("blog"))
    for person, words in (
        (bob, ("status", "shop")),
        (bob, ("logs", "shop")),
        (bob, ("config", "get", "shop", "SECRET_KEY_BASE")),
        (bob, ("run", "shop", "--", "eval", "1")),
        (bob, ("rollback", "shop")),
        (bob, ("server", "keys", "list")),
        (bob, ("unload", "blog", "--confirm", "blog")),
        (bob, ("load", "other")),
        (reader, ("config", "list", "shop", "--show")),
        (reader, ("restart", "shop")),
        (reader, ("run", "shop", "--", "eval", "1")),
    ):
        person.run(*words, status=Exit.REFUSED)
    stranger = bob.project("shop")
    assert "has no access to an app shop" in stranger.push(ok=False)
    stranger.git("fetch", "gatling", check=False)
    assert stranger.git("branch", "-r") == ""
    stranger = reader.project("unknown")
    stranger.push(ok=False)
    assert not [a for a in server.json("apps") if a["app"] == "unknown"]
    assert before == (server.last("shop"), server.last("blog"))
    server.gatling("server", "keys", "remove", "rita")
    assert reader.try_run("apps").returncode == 255  # ssh's own: not let in


def test_over_ssh_is_what_hands_know(
    server: Server, ann: Person, shop: Checkout, tmp_path: Path
) -> None:
    reader = server.let_in("rosa", "shop", role="reader")
    address = f"gatling@{server.box.name}"
    assert f"ssh {address} help " in reader.run()
    text = reader.run("help")
    assert "rosa is a reader of shop." in text
    assert f"ssh {address} COMMAND" in text
    assert "\n  status " in text
    assert "\n  deploy " not in text
    assert "\n  deploy " in ann.run("help")
    assert "Usage: gatling logs" in reader.run("help", "logs")
    assert "Usage: gatling logs" in reader.run("gatling", "logs", "--help")
    assert "running" in reader.run("gatling", "ps", "-a", "shop")
    said = reader.run("statsu", "shop", status=Exit.REFUSED)
    assert "There is no command 'statsu'. Did you mean 'status'?" in said
    assert f"`ssh {address} help` lists the commands." in said
    assert "Did you mean" not in reader.run("restrat", "shop", status=Exit.REFUSED)
    reader.run("ps:restart", "shop", status=Exit.REFUSED)
    audit = [(e["actor"], e["app"], e["detail"]) for e in server.json("audit")
             if e["action"] == "refused"]  # fmt: skip
    assert audit[:3] == [("rosa", "shop", "restart"), ("rosa", None, "no command: restrat"),
                         ("rosa", None, "no command: statsu")]  # fmt: skip

    # in the project, on a laptop: server and app are those of the git remote
    ssh = tmp_path / "ssh"
    call = shlex.join(server.box.ssh_command(ann.key, program="/usr/bin/ssh"))
    ssh.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
    ssh.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "status"], cwd=shop.directory,
        env=shop.env | {"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.stderr == f"shop on {server.box.name}\n"
    assert "running" in done.stdout


def test_ssh_gives_no_shell_and_forwards_nothing(server: Server, ann: Person) -> None:
    assert "Hello, ann!" in ann.run()
    for words in (["sh"], ["sh", "-c", "id"], ["scp", "-f", "/etc/passwd"], ["git-shell"],
                  ["git-upload-archive", "shop"], ["sftp-server"]):  # fmt: skip
        assert ann.try_run(*words).returncode in (Exit.REFUSED, Exit.INVALID), words
    done = server.box.ssh("gatling", "apps; id", key=ann.key, check=False)
    assert done.returncode != 0
    assert "uid=" not in done.stdout
    sftp = [*server.box.ssh_command(ann.key, "-b", "/dev/null", program="sftp"),
            f"gatling@{server.box.name}"]  # fmt: skip
    assert run(*sftp, check=False).returncode != 0
    settings = server.box.exec(["sshd", "-T", "-C", "user=gatling,host=x,addr=192.0.2.1"]).stdout
    for line in ("disableforwarding yes", "passwordauthentication no", "permituserrc no"):
        assert line in settings.lower()


def test_config_is_for_the_app_alone(
    server: Server, ann: Person, shop: Checkout, blog: Checkout
) -> None:
    word = "a-value-4711-of-its-own"
    ann.run("config", "set", "shop", "--stdin", "API_KEY", stdin=word)
    cookie = ann.run("config", "get", "shop", "RELEASE_COOKIE").strip()
    base = ann.run("config", "get", "shop", "SECRET_KEY_BASE").strip()
    got = ann.run("run", "shop", "--", "rpc", 'IO.puts(System.get_env("API_KEY"))')
    assert got.strip() == word
    seen = server.box.exec(["ps", "axwwo", "args"]).stdout
    unit = f"gatling@shop.{server.status()['slot']}.service"
    seen += server.box.exec(["systemctl", "show", unit]).stdout
    seen += server.box.exec(["systemctl", "cat", unit]).stdout
    seen += server.box.exec(["journalctl", "--no-pager", "-b", "--namespace=*"]).stdout
    for value in (word, cookie, base):
        assert value not in seen
    pid = server.status()["pid"]
    for path in (f"/proc/{pid}/environ", "/var/lib/gatling/home/state.db",
                 f"/var/lib/gatling/instances/shop.{server.status()['slot']}.json",
                 "/var/lib/gatling/apps/shop/state/.erlang.cookie",
                 "/var/lib/gatling/apps/shop/releases"):  # fmt: skip
        server.box.exec(["test", "-e", path])
        for user in ("gatling-blog", "nobody"):
            done = server.box.exec(["cat", path], user=user, check=False)
            assert "Permission denied" in done.stderr, (user, path, done)


def test_an_instance_is_confined(
    server: Server, ann: Person, shop: Checkout, blog: Checkout
) -> None:
    tree = f"/var/lib/gatling/apps/shop/releases/{release_now(server)}"
    code = """
    tries = fn paths, f -> for p <- paths, do: {p, f.(p)} end
    written = tries.(%s, &File.write(&1, "x"))
    read = tries.(%s, fn p -> case File.read(p) do {:ok, _} -> :ok; e -> e end end)
    seen = ["/var/lib/gatling", "/var/lib/gatling/apps", "/run/gatling-instances"]
    listed = tries.(seen, &File.ls/1)
    processes = "/proc" |> File.ls!() |> Enum.filter(&(&1 =~ ~r/^[0-9]+$/))
    mine = File.stat!("/proc/self").uid
    others = Enum.count(processes, &(File.stat!("/proc/" <> &1).uid != mine))
    IO.inspect({written, read, listed, others}, limit: :infinity, width: 10000)
    """
    write = json.dumps([f"{tree}/x", f"{tree}/bin/counter", "/etc/x", "/usr/x", "/home/x",
                        "/var/lib/gatling/apps/shop/git/x", "/var/lib/gatling/x",
                        f"{MAY_WRITE.format('shop')}/x", "/tmp/x"])  # fmt: skip
    read = json.dumps(
        [
            "/etc/shadow",
            "/var/lib/gatling/home/state.db",
            "/run/gatling/helper.sock",
            "/var/lib/gatling/apps/blog/state/.erlang.cookie",
            "/root/.bashrc",
        ]
    )
    said = ann.run("run", "shop", "--", "rpc", "; ".join((code % (write, read)).split("\n")[1:-1]))
    written, _, rest = said.partition("], [")
    ok = re.findall(r'\{"([^"]+)", :ok\}', written)
    assert ok == [f"{MAY_WRITE.format('shop')}/x", "/tmp/x"]
    assert ":ok}" not in rest.partition('{"/var/lib/gatling",')[0]
    assert '["blog"' not in rest
    assert '"blog.' not in rest
    notes = server.box.exec(["ls", "/run/gatling-instances"], user="gatling").stdout
    assert {name.partition(".")[0] for name in notes.split()} == {"shop", "blog"}
    for user in ("gatling-blog", "nobody"):
        with_others = ["logger", "--socket", "/run/systemd/journal.gatling-shop/dev-log", "forged"]
        assert "Permission denied" in server.box.exec(with_others, user=user, check=False).stderr
        for path in ("", "/shop.1", "/shop.1/ends"):
            done = server.box.exec(["ls", f"/run/gatling-instances{path}"], user=user, check=False)
            assert "Permission denied" in done.stderr, (user, path, done)
    assert rest.rstrip().endswith(", 0}")
    assert not (server.box.root / "tmp/x").exists()
    score = server.box.exec(["systemd-analyze", "security", "gatling@shop.1.service"]).stdout
    found = re.search(r"exposure level for \S+: ([\d.]+)", score)
    assert found
    assert float(found[1]) <= 3.0


def test_limits_are_systemds(server: Server, ann: Person, shop: Checkout) -> None:
    unit = f"gatling@shop.{3 - server.status()['slot']}.service"
    ann.run("settings", "set", "shop", "limits.memory=300M", "limits.tasks=200", "limits.cpu=50%")
    ann.run("restart", "shop")
    shown = server.show(unit, "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
    assert (shown["MemoryMax"], shown["TasksMax"]) == (str(300 << 20), "200")
    assert shown["CPUQuotaPerSecUSec"] == "500ms"
    busy = ann.run("run", "shop", "--", "rpc", BUSY)
    assert 0 < int(busy) < 70
    pid = server.status()["pid"]
    ann.try_run("run", "shop", "--", "rpc", ":binary.copy(<<1>>, 900_000_000)")
    until(lambda: server.status()["pid"] not in (None, pid), "another instance", 60)
    until(lambda: server.status()["state"] == "running", "it runs", 60)
    ann.run("settings", "unset", "shop", "limits.memory", "limits.tasks", "limits.cpu")


def test_an_instance_that_crashes_again_and_again_is_failed_and_comes_back_by_itself(
    server: Server, bob: Person, blog: Checkout
) -> None:
    live = server.status("blog")
    tree = server.box.root / f"var/lib/gatling/apps/blog/releases/{live['release']}"
    program = tree / "bin/counter"
    program.rename(program.with_name("away"))
    server.box.exec(["kill", "-9", str(live["pid"])])

    def pausing() -> bool:
        seen = bob.json("status", "blog")
        cause = seen["last_end"] and seen["last_end"]["cause"]
        return seen["state"] == "restarting" and "exited with status 1" in (cause or "")

    until(pausing, "a pause after an end of its own", 60)
    # as many starts as are needed, without waiting for all the pauses, and asked by one program
    noted = f"/run/gatling-instances/blog.{live['slot']}"
    often = str(HOPELESS + 1)  # the first one was after a while
    server.box.exec(["sh", "-c", HURRIED, "sh", noted, often], check=False, timeout=600)
    until(lambda: bob.json("status", "blog")["state"] == "failed", "the failed state", 300, 4)
    program.with_name("away").rename(program)
    until(lambda: bob.json("status", "blog")["state"] == "running", "another start", 120, 2)


def test_nginx_is_the_operators_as_well(server: Server, ann: Person, shop: Checkout) -> None:
    theirs = server.box.root / "etc/nginx/conf.d/own.conf"
    theirs.write_text("server { listen 80; server_name own.example; return 418; }\n")
    ann.run("domains", "add", "shop", "shop.example.com")
    until(lambda: server.get(host="own.example").status == 418, "the operator's site")
    assert server.get(host="shop.example.com").status == 200
    snippets = server.box.root / "etc/nginx/gatling/shop.d"
    snippets.mkdir()
    (snippets / "own.conf").write_text('add_header X-Own "yes" always;\n')
    server.box.exec(["systemctl", "reload", "nginx"])
    until(lambda: server.get().headers["X-Own"] == "yes", "the operator's header")
    theirs.write_text("server { listen 80; nonsense; }\n")
    before = (server.box.root / "etc/nginx/gatling/sites.conf").read_text()
    text = ann.run("domains", "add", "shop", "two.example.com", status=Exit.HOST)
    assert "nginx refuses" in text
    assert (server.box.root / "etc/nginx/gatling/sites.conf").read_text() == before
    assert "two.example.com" not in ann.run("domains", "list", "shop")
    assert server.get(host="shop.example.com").status == 200
    theirs.unlink()
    ann.run("domains", "add", "shop", "two.example.com")
    until(lambda: 'id="version"' in server.get(host="two.example.com").text, "the domain")


def test_an_app_that_is_removed_leaves_nothing(server: Server, tmp_path: Path) -> None:
    admin = server.admin("eve")
    project = admin.project("gone")
    project.push()
    assert server.serves("", "gone")
    admin.run("unload", "gone", "--confirm", "gone")
    root = server.box.root
    found = server.box.exec(
        ["find", "/var/lib/gatling", "/etc/systemd", "/etc/nginx/gatling", "/var/log/journal",
         "/run/gatling-instances", "-name", "*gone*"]
    )  # fmt: skip
    assert found.stdout == ""
    assert "gatling-gone" not in (root / "etc/passwd").read_text()
    assert "gone" not in (root / "etc/nginx/gatling/sites.conf").read_text()
    until(lambda: not server.serves("", "gone"), "the end of its site")
    project.push()  # and can be made again
    assert server.serves("", "gone")
    admin.run("unload", "gone", "--confirm", "gone")
