"""The bed itself: what the other tests here rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.server import remains
from tests.server.host import ROOT, filesystem, is_mounted
from tests.server.image import remove_image
from tests.server.network import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.bed import Bed
    from tests.server.box import Box
    from tests.server.conftest import Boxes

WEB = ["systemd-run", "--quiet", "--unit=web", "--property=WorkingDirectory=/srv",
       "python3", "-m", "http.server", "80", "--protocol=HTTP/1.1"]  # fmt: skip


@pytest.fixture(scope="module")
def box(module_boxes: Boxes, ssh_key: Path) -> Box:
    """A box for the tests that leave it as it was."""
    made = module_boxes("web")
    made.authorize("root", ssh_key.with_suffix(".pub").read_text())
    return made


def boot_id(box: Box) -> str:
    return box.exec(["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()


def serve(box: Box) -> None:
    box.exec(WEB)
    until(lambda: _status(box) == 200, "the web server", 60)


def _status(box: Box) -> int:
    try:
        return box.get().status
    except OSError:
        return 0


def test_it_is_a_booted_debian(box: Box) -> None:
    assert box.exec(["systemctl", "is-system-running"]).stdout == "running\n"
    assert box.exec(["cat", "/proc/1/comm"]).stdout == "systemd\n"
    assert box.exec(["hostname"]).stdout == "web\n"
    assert box.memory().used > 5 << 20
    assert "Welcome to" in box.console()
    assert "Reached target" in box.journal()
    for missing in ("nginx", "elixir", "erl", "sudo"):
        assert box.exec(["which", missing], check=False).returncode == 1


def test_programs_are_run_as_the_user_with_input_and_environment(box: Box) -> None:
    script = 'echo "$(id -un) $HOME $A"; cat; echo wrong >&2; exit 3'
    done = box.exec(["sh", "-c", script], user="nobody", env={"A": "a b"}, stdin="in", check=False)
    assert (done.stdout, done.stderr, done.returncode) == (
        "nobody /nonexistent a b\nin", "wrong\n", 3,
    )  # fmt: skip


def test_what_takes_too_long_is_ended(box: Box) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        box.exec(["sleep", "4321"], timeout=0.5)
    until(lambda: box.exec(["pgrep", "-f", "sleep 4321"], check=False).stdout == "", "its end")


def test_ssh(box: Box, ssh_key: Path) -> None:
    assert box.ssh("root", ["printf", "%s|", "a b", "c"], key=ssh_key).stdout == "a b|c|"
    assert box.ssh("root", "tty", key=ssh_key, check=False).stdout == "not a tty\n"
    assert box.ssh("root", "tty", key=ssh_key, tty=True).stdout.startswith("/dev/pts/")


def test_ssh_lets_no_other_key_in(box: Box, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    refused = box.ssh("root", "true", key=other, check=False)
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_an_ssh_connection_can_be_killed(box: Box, ssh_key: Path) -> None:
    with box.start_ssh("root", "echo there; exec sleep 9876", key=ssh_key, tty=True) as connection:
        assert connection.stdout is not None
        assert connection.stdout.readline().strip() == "there"
        connection.kill()
    until(lambda: box.exec(["pgrep", "-f", "sleep 9876"], check=False).stdout == "", "its end")


def test_git_over_ssh(box: Box, ssh_key: Path, tmp_path: Path) -> None:
    box.exec(["git", "init", "--quiet", "--bare", "/root/shop.git"])
    env = os.environ | box.git_env(ssh_key)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (
        ["init", "--quiet", "--initial-branch=main"],
        [*identity, "commit", "--quiet", "--allow-empty", "--message=first"],
        ["push", "--quiet", "ssh://root@web/root/shop.git", "main"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, env=env, check=True, timeout=120)
    assert (box.root / "root/shop.git/refs/heads/main").exists()


def test_limits_are_enforced(box: Box) -> None:
    hungry = ["python3", "-c", "len(bytearray(200 << 20))"]

    def status(limit: str) -> int:
        run = ["systemd-run", "--wait", "--quiet", "-p", f"MemoryMax={limit}"]
        return box.exec([*run, *hungry], check=False).returncode

    assert status("400M") == 0
    assert status("50M") != 0


def test_the_world_is_unreachable_but_online(box: Box) -> None:
    # a test that needs the network by mistake must fail at once
    for url, status in (("http://192.0.2.1/", 7), ("http://name.invalid/", 6)):
        begun = time.monotonic()
        refused = box.exec(["curl", "-sS", url], check=False)
        assert refused.returncode == status, refused.stderr
        assert time.monotonic() - begun < 30  # minutes, if it were tried
    box.online(["apt-get", "update", "-qq"])
    assert box.exec(["apt-cache", "show", "nginx-light"]).stdout


def test_reboot_crash_stop_and_start(boxes: Boxes) -> None:
    box = boxes()
    first = boot_id(box)
    box.reboot()
    second = boot_id(box)
    assert second != first

    serve(box)
    box.exec(["sh", "-c", "echo kept > /srv/file; sync"])
    box.crash()
    assert not box.is_on
    assert (box.root / "srv/file").read_text() == "kept\n"
    box.start()
    assert boot_id(box) not in (first, second)
    assert box.exec(["cat", "/srv/file"]).stdout == "kept\n"
    assert box.exec(["pgrep", "-f", "http.server"], check=False).stdout == ""

    box.stop()
    assert not box.is_on
    assert "Power-Off" in box.journal(lines=300) or "Halt" in box.journal(lines=300)
    (box.root / "srv/file").write_text("by the host\n")
    box.start()
    assert box.exec(["cat", "/srv/file"]).stdout == "by the host\n"


def test_boxes_see_each_other_and_have_identities(box: Box, boxes: Boxes) -> None:
    other = boxes("other")
    (box.root / "srv/page").write_text("from web")
    serve(box)
    assert other.exec(["curl", "-sS", "http://web/page"]).stdout == "from web"
    for path in ("etc/machine-id", "etc/ssh/ssh_host_ed25519_key.pub"):
        assert (box.root / path).read_text() != (other.root / path).read_text()

    other.unplug()
    cut = ["curl", "-sS", "--connect-timeout", "1", "http://web/page"]
    assert other.exec(cut, check=False).returncode != 0
    other.plug()
    assert other.exec(["curl", "-sS", "http://web/page"]).stdout == "from web"

    with box.client(path="/page", threads=2) as client:
        until(lambda: len(client.texts) > 20, "answers")
        assert client.failures == []
        box.exec(["systemctl", "stop", "web"])
        until(lambda: client.failures, "a failure that is noticed")
    assert set(client.texts) == {"from web"}


def test_a_kept_connection_that_is_closed_is_a_failure(boxes: Boxes) -> None:
    box = boxes()
    (box.root / "srv/page").write_text("page")
    serve(box)
    with box.client(path="/page", kept=True) as client:
        until(lambda: len(client.texts) > 20, "answers")
        assert client.failures == []
        box.exec(["systemctl", "restart", "web"])
        until(lambda: client.failures, "a failure that is noticed")
    with box.bed.lan.connect(box.ip, 22) as ssh:
        assert ssh.recv(4) == b"SSH-"


def test_an_installed_image(bed: Bed, boxes: Boxes) -> None:
    key = uuid.uuid4().hex
    calls = []

    def install(box: Box) -> None:
        calls.append(box.name)
        box.exec(["sh", "-ec", "rm /etc/cron.daily/dpkg; rm -r /etc/skel; mkdir /etc/skel"])
        box.exec(["sh", "-c", "echo new > /etc/skel/new; useradd --create-home deploy"])
        (box.root / "etc/box").write_text((box.root / "etc/machine-id").read_text())

    image = bed.layered_image("installed", key, install)
    try:
        assert bed.layered_image("installed", key, install) == image
        assert calls == ["install"]
        box = boxes("one", image)
        assert not (box.root / "etc/cron.daily/dpkg").exists()
        assert box.exec(["ls", "-A", "/etc/skel"]).stdout == "new\n"
        assert box.exec(["id", "-un"], user="deploy").stdout == "deploy\n"
        assert (box.root / "etc/machine-id").read_text() != (box.root / "etc/box").read_text()
        box.destroy()
    finally:
        remove_image(image)
    assert not image.layers[0].exists()


@pytest.fixture
def killed_run(bed: Bed) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Another test process, that has a box; its bed, and the PID 1 of the box."""
    script = """
        import time
        from tests.server.bed import Bed
        bed = Bed()
        print(bed.name, bed.box("left").up().pid1(), flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            name, pid = process.stdout.readline().split()
            yield process, name, int(pid)
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_nothing(
    killed_run: tuple[subprocess.Popen[str], str, int], how: signal.Signals
) -> None:
    process, name, pid = killed_run
    directory = remains.beds() / name
    groups = remains.Spec.read(directory / "left").groups
    assert is_mounted(directory / "left/root")
    process.send_signal(how)
    process.wait()
    until(lambda: not directory.exists(), "removal of the bed", 60)
    assert not is_mounted(directory / "left/root")
    assert not _runs(pid)
    assert not any(group.exists() for group in groups)
    assert not any(path.name.startswith(f"{name}-") for path in NAMESPACES.iterdir())


def test_a_killed_supervisor_takes_its_box_along(boxes: Boxes) -> None:
    box = boxes()
    pid = box.pid1()
    assert pid
    os.kill(_parent(_parent(pid)), signal.SIGKILL)  # above it is nspawn
    until(lambda: not _runs(pid), "the end of the box", 60)
    box.start()


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("PPid:")[1].split()[0])


def test_file_systems(tmp_path: Path) -> None:
    assert filesystem(Path("/proc/self")) == "proc"
    assert filesystem(Path("/dev/shm/not/there")) == "tmpfs"
    assert filesystem(tmp_path)
