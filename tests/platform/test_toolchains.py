"""Toolchains from a mirror on loopback, from files and directories: whole, or not there."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from gatling.errors import CommandFailed, DiskFull, GatlingError, InvalidInput, NotFound
from gatling.platform.toolchains import mirror, store, unpack
from gatling.platform.toolchains.order import Order, order
from gatling.project.toolchains import parse
from tests.conftest import until
from tests.mirror import Mirror, debian_elixir, debian_otp, hang, small_elixir, small_otp, tarred
from tests.mirror import zipped as zipped_files
from tests.platform.chains import install, left

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.embedded.toolchains import OwnToolchains
    from gatling.platform.toolchains.store import Installed

HOST = store.on_path("/usr/bin:/bin")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("1.18", "1.18.4-otp-28.0.1"), ("1.18/27", "1.18.4-otp-27.3.4"),
        ("1.18.3", "1.18.3-otp-27.3.4"), ("1.18.4-otp-27.2", "1.18.4-otp-27.2"),
        ("/26", "1.17.3-otp-26.2.5"), ("1.19.0-rc.0", "1.19.0-rc.0-otp-28.0.1"),
    ],
)  # fmt: skip
def test_the_newest_build_that_is_meant(builds: Mirror, wanted: str, name: str) -> None:
    elixir, otp = mirror.pair(builds.url, parse(wanted))
    assert f"{elixir.version}-otp-{otp.version}" == name


def test_a_toolchain_is_installed_used_and_removed(
    builds: Mirror, chains: OwnToolchains, tmp_path: Path
) -> None:
    said: list[str] = []
    made = chains.install(Order("1.18/27", builds.url), said.append)
    assert (made.name, str(made.elixir), str(made.otp)) == ("1.18.4-otp-27.3.4", "1.18.4", "27.3.4")
    assert made.bytes > 0
    assert said == [f"Downloading Elixir 1.18.4 for OTP 27 from {builds.url}",
                    f"Downloading OTP 27.3.4 from {builds.url}"]  # fmt: skip
    programs = chains.programs(made.name)
    assert subprocess.check_output([programs / "elixir"], text=True) == "Elixir 1.18.4\n"
    root = tmp_path / "home/toolchains/1.18.4-otp-27.3.4/erlang"
    found = subprocess.check_output([programs / "erl"], text=True)
    assert found == f"OTP 27.3.4 at {root} {root}/erts-27.1/bin\n"
    assert (root / "bin/start.boot").read_text() == "boot"
    assert store.on_path(str(programs), made.name) == made.plain

    # one that is installed is not downloaded again
    builds.asked.clear()
    assert install(chains, "1.18.4-otp-27", builds, present=(made.name,)) == made
    assert all(path.endswith("builds.txt") for path in builds.asked)

    other = install(chains, "1.17", builds)
    assert [each.name for each in chains.installed()] == [made.name, other.name]
    chains.remove(made.name)
    assert left(chains, tmp_path) == [other.name]
    with pytest.raises(NotFound):
        chains.remove(made.name)
    with pytest.raises(NotFound):
        chains.remove("../home")


def other_sum(builds: Mirror) -> None:
    builds.otp("27.9", sha256="ab" * 32)


def no_sum(builds: Mirror) -> None:
    builds.otp("27.9", sha256="")


def broken_zip(builds: Mirror) -> None:
    builds.elixir("1.18.9", "27", archive=small_elixir("1.18.9")[:-30])


def broken_tar(builds: Mirror) -> None:
    builds.otp("27.9", archive=small_otp("27.9")[:200])


def another_version(builds: Mirror) -> None:
    builds.otp("27.9", archive=small_otp("26.0"))


def missing_file(builds: Mirror) -> None:
    builds.otp("27.9")
    del builds.files[f"builds/otp/{mirror.this_host()[0]}/OTP-27.9.tar.gz"]


def server_error(builds: Mirror) -> None:
    def fail(_path: str, handler: object) -> bool:
        handler.send_error(503)  # type: ignore[attr-defined]
        return True

    builds.fault = fail


def cut_off(builds: Mirror) -> None:
    def cut(path: str, handler: object) -> bool:
        if path.endswith(".txt"):
            return False
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.send_header("Content-Length", "100000")  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write(b"PK")  # type: ignore[attr-defined]
        return True

    builds.fault = cut


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (other_sum, InvalidInput, "is not the file that was published: its SHA-256 is"),
        (no_sum, InvalidInput, "lists no checksum for OTP 27.9"),
        (broken_zip, InvalidInput, "v1.18.9-otp-27.zip is damaged"),
        (broken_tar, InvalidInput, "OTP-27.9.tar.gz is damaged"),
        (another_version, InvalidInput, "That is Elixir 1.18.4 with OTP 26.0, not 1.18/27"),
        (missing_file, NotFound, "OTP-27.9.tar.gz does not exist"),
        (server_error, CommandFailed, "status 503"),
        (cut_off, CommandFailed, "broke off after 2 of 100000 bytes"),
    ],
)
def test_a_fault_of_the_mirror_installs_nothing(
    builds: Mirror, chains: OwnToolchains, tmp_path: Path, fault: object, kind: type[GatlingError],
    text: str,
) -> None:  # fmt: skip
    fault(builds)  # type: ignore[operator]
    with pytest.raises(kind) as failed:
        install(chains, "1.18/27", builds)
    assert text in failed.value.what
    assert left(chains, tmp_path) == []


def test_versions_that_a_mirror_does_not_have(builds: Mirror, chains: OwnToolchains) -> None:
    with pytest.raises(NotFound) as failed:
        install(chains, "1.21/30", builds)
    assert "has no build of Elixir 1.21 with OTP 30 for this host" in failed.value.what
    assert "The newest Elixir there is 1.18.4" in failed.value.what
    with pytest.raises(NotFound):
        install(chains, "1.17/28", builds)


def test_a_mirror_that_hangs_or_is_not_there(
    builds: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SILENCE_SECONDS", 0.5)
    builds.fault = hang
    with pytest.raises(CommandFailed) as failed:
        mirror.pair(builds.url, parse("1.18"))
    assert "did not answer in time" in failed.value.what
    assert "--mirror URL" in failed.value.hint
    with pytest.raises(CommandFailed) as failed:
        mirror.pair("http://127.0.0.1:9", parse("1.18"))
    assert "cannot be reached: Connection refused" in failed.value.what


def test_a_mirror_that_is_slow_is_given_up(
    builds: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def trickle(_path: str, handler: object) -> bool:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        for _ in range(50):
            handler.wfile.write(b"x")  # type: ignore[attr-defined]
            handler.wfile.flush()  # type: ignore[attr-defined]
            time.sleep(0.1)
        return True

    monkeypatch.setattr(mirror, "ARCHIVE_SECONDS", 0.5)
    elixir, _ = mirror.pair(builds.url, parse("1.18"))
    builds.fault = trickle
    with pytest.raises(CommandFailed) as failed:
        mirror.download(builds.url, elixir, tmp_path / "archive")
    assert "did not answer in time" in failed.value.what


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """A tar archive with members of any type: name, type, the target of a link or the text."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind, to in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o6777
            if kind == tarfile.REGTYPE:
                member.size = len(to)
            else:
                member.linkname = to
            tar.addfile(member, io.BytesIO(to.encode()))
    return made.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        archive(("/etc/x", tarfile.REGTYPE, "x")),
        archive(("a/../../x", tarfile.REGTYPE, "x")),
        archive(("l", tarfile.SYMTYPE, "/etc"), ("l/x", tarfile.REGTYPE, "x")),
        archive(("l", tarfile.SYMTYPE, "../.."), ("l/x", tarfile.REGTYPE, "x")),
        archive(("d/l", tarfile.SYMTYPE, "../../x")),
        archive(("d", tarfile.DIRTYPE, ""), ("l", tarfile.SYMTYPE, "d"),
                ("l/x", tarfile.REGTYPE, "x")),
        archive(("l", tarfile.LNKTYPE, "/etc/passwd")),
        archive(("l", tarfile.LNKTYPE, "../../../etc/passwd")),
        archive(("x", tarfile.CHRTYPE, "")),
        archive(("x", tarfile.BLKTYPE, "")),
        archive(("x", tarfile.FIFOTYPE, "")),
        archive(("x", tarfile.REGTYPE, "x"), ("x", tarfile.SYMTYPE, "y")),
        archive(("x", tarfile.SYMTYPE, "y"), ("x", tarfile.REGTYPE, "x")),
        archive(),
        b"no archive at all",
        b"",
        zipped_files({"../x": "x"}),
        zipped_files({"/x": "x"}),
        zipped_files({}),
    ],
)  # fmt: skip
def test_hostile_archives_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in.tar").write_bytes(data)
    below = tmp_path / "work"
    below.mkdir()
    with pytest.raises(InvalidInput):
        unpack.unpack(tmp_path / "in.tar", below / "out")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.tar", "work"]
    assert [each.name for each in below.iterdir()] == ["out"]


def test_links_of_zip_archives_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("l")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as made:
        made.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidInput):
        unpack.unpack(tmp_path / "in.zip", tmp_path / "out")


def test_no_mode_of_an_archive_is_kept_but_the_right_to_run(tmp_path: Path) -> None:
    data = archive(("d", tarfile.DIRTYPE, ""), ("d/x", tarfile.REGTYPE, "x"),
                   ("d/l", tarfile.SYMTYPE, "x"), ("twin", tarfile.LNKTYPE, "d/x"))  # fmt: skip
    (tmp_path / "in.tar").write_bytes(data)
    unpack.unpack(tmp_path / "in.tar", tmp_path / "out")
    modes = {name: (tmp_path / "out" / name).stat().st_mode & 0o7777 for name in ("d", "d/x")}
    assert modes == {"d": 0o755, "d/x": 0o755}
    assert (tmp_path / "out/twin").read_text() == (tmp_path / "out/d/l").read_text() == "x"
    assert (tmp_path / "out/twin").stat().st_nlink == 1


def test_archives_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(unpack, "MAX_ENTRIES", 10)
    (tmp_path / "bomb.zip").write_bytes(zipped_files({"a": "0" * (2 << 20)}))
    (tmp_path / "many.tar").write_bytes(tarred(*((f"f{n}", "", 0o644) for n in range(11))))
    for name, text in (("bomb.zip", "more than"), ("many.tar", "more than 10 files")):
        with pytest.raises(InvalidInput) as refused:
            unpack.unpack(tmp_path / name, tmp_path / f"out-{name}")
        assert text in refused.value.what


def test_from_files_and_directories(chains: OwnToolchains, tmp_path: Path) -> None:
    elixir, otp = tmp_path / "elixir.zip", tmp_path / "otp.tar.gz"
    elixir.write_bytes(small_elixir("1.18.4"))
    otp.write_bytes(small_otp("27.3"))
    both = (str(elixir), str(otp))
    with pytest.raises(InvalidInput) as refused:
        chains.install(Order("1.19", paths=both), lambda _: None)
    assert "That is Elixir 1.18.4 with OTP 27.3, not 1.19" in refused.value.what
    made = chains.install(Order("", paths=both), lambda _: None)
    assert (made.name, made.source) == ("1.18.4-otp-27.3", f"{elixir} {otp}")

    # the parts of an installed one, whose bin/ has links
    chains.remove(made.name)
    directory = tmp_path / "own"
    unpack.unpack(elixir, directory)
    unpack.unpack(otp, directory / "otp")
    (directory / "bin/erl").symlink_to("../otp/OTP-27.3/bin/erl")
    (directory / "passwd").symlink_to("/etc/passwd")
    assert chains.install(Order("1.18", paths=(str(directory),)), lambda _: None).name == made.name
    assert (directory / "otp/OTP-27.3").is_dir()

    with pytest.raises(InvalidInput) as refused:
        chains.install(Order("", paths=(str(elixir),)), lambda _: None)
    assert "There is no OTP in" in refused.value.what
    with pytest.raises(InvalidInput) as refused:
        chains.install(Order("", paths=("/nowhere",)), lambda _: None)
    assert "/nowhere is not there, or cannot be read" in refused.value.what
    with pytest.raises(InvalidInput) as refused:
        chains.install(Order("", paths=(str(elixir),), sha256="ab" * 32), lambda _: None)
    assert "is not the file that was published" in refused.value.what


def test_two_installations_at_the_same_time(builds: Mirror, chains: OwnToolchains,
                                            tmp_path: Path) -> None:  # fmt: skip
    made: list[Installed] = []
    threads = [threading.Thread(target=lambda w=w: made.append(install(chains, w, builds)))
               for w in ("1.18/27", "1.18/27", "1.17")]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = ["1.17.3-otp-26.2.5", "1.18.4-otp-27.3.4", "1.18.4-otp-27.3.4"]
    assert sorted(each.name for each in made) == names
    assert left(chains, tmp_path) == sorted(set(names))


def test_one_that_is_killed_leaves_nothing_half_made(
    builds: Mirror, chains: OwnToolchains, tmp_path: Path
) -> None:
    builds.fault = lambda path, handler: path.endswith(".tar.gz") and hang(path, handler)
    program = (
        "import sys; from pathlib import Path\n"
        "from gatling.platform.embedded.home import EmbeddedHome\n"
        "from gatling.platform.embedded.toolchains import OwnToolchains\n"
        "from gatling.platform.toolchains.order import Order\n"
        "OwnToolchains(EmbeddedHome(Path(sys.argv[1]))).install(\n"
        "    Order('1.18/27', sys.argv[2]), lambda _: None)\n"
    )
    started = subprocess.Popen([sys.executable, "-c", program, tmp_path / "home", builds.url],
                               start_new_session=True)  # fmt: skip
    until(lambda: any(path.endswith(".tar.gz") for path in builds.asked), "the download")
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert chains.installed() == []
    assert len(left(chains, tmp_path)) == 1
    builds.fault = lambda _path, _handler: False
    made = install(chains, "1.18/27", builds)
    assert left(chains, tmp_path) == [made.name]


def test_a_full_disk(builds: Mirror, tmp_path: Path) -> None:
    """In a file system of one megabyte, which the program of an installation fills."""
    builds.otp("27.9", archive=small_otp("27.9") + os.urandom(4 << 20))
    (tmp_path / "small").mkdir()
    script = (
        'mount -t tmpfs -o size=1m none "$1" && exec "$2" -m gatling.platform.toolchains.fetch'
        ' "$1" "$3"'
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh",
         tmp_path / "small", sys.executable, Order("1.18/27", builds.url).json()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no namespaces here")
    assert done.returncode == 1
    report = store.Report(lambda _: None)
    for line in done.stdout.splitlines():
        report.line(line)
    with pytest.raises(DiskFull) as failed:
        _ = report.name
    assert "No space is left" in failed.value.what


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"wanted": 1}', '{"wanted": "1.18", "mirror": "file:///etc"}',
     '{"wanted": "1.18", "x": 1}', '{"wanted": "", "paths": [], "present": []}',
     '{"wanted": "", "paths": ["relative"], "present": []}',
     '{"wanted": "1.18", "mirror": "http://u@h/?x", "paths": [], "present": []}'],
)  # fmt: skip
def test_orders_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        order(text)


@pytest.mark.skipif(HOST is None, reason="this host has no Elixir of Debian's")
def test_the_hosts_own_elixir_and_otp_from_a_mirror_run_where_they_are_put(
    chains: OwnToolchains,
) -> None:
    assert HOST is not None
    otp = str(HOST.otp)
    with Mirror() as builds:
        builds.elixir(str(HOST.elixir), otp.partition(".")[0], archive=debian_elixir())
        builds.otp(otp, archive=debian_otp(otp))
        made = install(chains, str(parse(f"{HOST.elixir}/{otp}")), builds)
    programs = chains.programs(made.name)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
    script = (
        "IO.puts [:code.root_dir(), 10, Path.expand(:code.lib_dir(:elixir)), 10, System.version()]"
    )
    said = subprocess.check_output(["elixir", "-e", script], env=environment, text=True)
    parts = programs.parent
    assert said.split() == [f"{parts}/erlang", f"{parts}/elixir/lib/elixir", str(HOST.elixir)]
    assert subprocess.check_output(["mix", "--version"], env=environment)
