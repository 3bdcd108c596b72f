"""Toolchains of hostile archives and mirrors, full disks, and others at work."""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPMessage
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from gatling import files
from gatling.errors import CommandFailed, DiskFull, HelperFailed, InvalidInput
from gatling.platform.server.helper import client, running
from gatling.platform.server.helper import toolchains as helper
from gatling.platform.server.toolchains import RootsToolchains
from gatling.platform.toolchains import assemble, fetch, mirror, store, unpack
from gatling.platform.toolchains import order as order_module
from gatling.platform.toolchains.order import Order
from gatling.project.toolchains import parse
from tests.mirror import Mirror, small_elixir, small_otp, tarred
from tests.mirror import zipped as zipped_files
from tests.platform.chains import install, left

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.embedded.toolchains import OwnToolchains


def test_others_that_take_too_long_are_not_waited_for(
    builds: Mirror, chains: OwnToolchains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = install(chains, "1.17", builds)
    monkeypatch.setattr(store, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(store, "REMOVE_SECONDS", 0.2)
    directory = tmp_path / "home/toolchains"
    assert (directory / ".lock").stat().st_mode & 0o777 == 0o600
    with files.locked(directory / ".lock"):
        with pytest.raises(InvalidInput, match="Another toolchain is being installed or removed"):
            install(chains, "1.18/27", builds)
        with pytest.raises(InvalidInput, match="nothing was changed"):
            chains.remove(made.name)
    assert chains.installed() == [made]


def test_the_helper_waits_no_longer_than_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "INSTALLED_TOOLCHAINS", tmp_path)
    monkeypatch.setattr(pwd, "getpwnam", lambda _: None)
    here, there = socket.socketpair()
    said: list[str] = []

    def ask() -> None:
        try:
            helper.install({"order": Order("1.18").json()}, [], there)
        except InvalidInput as error:
            said.append(error.what)

    with files.locked(tmp_path / ".lock"):
        waiting = threading.Thread(target=ask)
        waiting.start()
        here.close()
        waiting.join(10)
    there.close()
    assert said == ["The installation was called off; nothing was installed."]


def test_what_a_killed_helper_left_running_is_stopped_before_its_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And systemd forgets how it ended, or it would start no unit of that name."""
    left, me = tmp_path / ".new-left", pwd.getpwuid(os.getuid())
    left.mkdir()
    called: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        subprocess, "run", lambda argv, **_: called.append((argv[1], left.exists()))
    )
    monkeypatch.setattr(helper, "INSTALLED_TOOLCHAINS", tmp_path)
    monkeypatch.setattr(pwd, "getpwnam", lambda _: me)
    monkeypatch.setattr(running, "run", lambda *_, **__: {"status": 1})
    here, there = socket.socketpair()
    with here, there:
        assert helper.install({"order": Order("1.18").json()}, [], there) == {"status": 1}
    assert called == [("stop", True), ("reset-failed", True)]
    assert not left.exists()


def hostile_otp(*links: tuple[str, str], below: str = "", top: bool = False) -> bytes:
    """An OTP whose links stay in the archive, but not in the toolchain that is made of it."""
    made = io.BytesIO(small_otp("27.9"))
    out = io.BytesIO()
    every = [(f"{below}OTP-27.9/{name}", to) for name, to in links]
    if top:
        every.append(("bin/erl", f"../{below}OTP-27.9/bin/erl"))
    with tarfile.open(fileobj=made) as old, tarfile.open(fileobj=out, mode="w") as tar:
        for member in old:
            data = old.extractfile(member)
            member.name = f"{below}{member.name}"
            tar.addfile(member, data)
        for name, to in every:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, to
            tar.addfile(link)
    return out.getvalue()


@pytest.mark.parametrize(
    "link",
    [("bin/start.boot", "../../../outside"), ("erts-27.1/bin/epmd", "../../../../outside"),
     ("bin/start_clean.boot", "../../../../outside"), ("more/way/down", "../../../../outside")],
)  # fmt: skip
def test_a_link_that_leads_out_once_its_part_is_moved_is_refused(
    tmp_path: Path, link: tuple[str, str]
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o600)
    tree = tmp_path / "work/tree"
    for name, data in (("elixir", small_elixir("1.18.4")), ("erlang", hostile_otp())):
        (tmp_path / "archive").write_bytes(data)
        unpack.unpack(tmp_path / "archive", tmp_path / name)
        tree.mkdir(parents=True, exist_ok=True)
        part = tmp_path / name / "OTP-27.9" if name == "erlang" else tmp_path / name
        part.rename(tree / name)
    place = tree / "erlang" / link[0]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(link[1])
    with pytest.raises(InvalidInput, match="has a link that leads out of it: erlang/"):
        assemble.finish(tree)
    assert (outside.read_text(), outside.stat().st_mode & 0o777) == ("mine", 0o600)


def test_no_link_of_an_archive_leads_out_of_the_toolchain(
    builds: Mirror, chains: OwnToolchains, tmp_path: Path
) -> None:
    """OTP is deep in the archive, and found by a link at its top."""
    links = (("bin/start.boot", "../../../../boot"),)
    builds.otp("27.9", archive=hostile_otp(*links, below="a/b/", top=True))
    with pytest.raises(InvalidInput, match=r"leads out of it: erlang/bin/start\.boot"):
        install(chains, "1.18/27", builds)
    assert left(chains, tmp_path) == []
    assert not (tmp_path / "home/boot").exists()


def test_a_boot_script_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Also not within the toolchain: what is there is a file of its own."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, data in (("elixir", small_elixir("1.18.4")),
                       ("erlang", hostile_otp(("bin/start.boot", "../made")))):  # fmt: skip
        (tmp_path / "archive").write_bytes(data)
        unpack.unpack(tmp_path / "archive", tmp_path / name)
    (tmp_path / "elixir").rename(tree / "elixir")
    (tmp_path / "erlang/OTP-27.9").rename(tree / "erlang")
    assemble.finish(tree)
    assert not (tree / "erlang/made").exists()
    assert not (tree / "erlang/bin/start.boot").is_symlink()


class AlmostFull:
    """What statvfs(3) says of a disk that is full but for ten megabytes."""

    f_frsize, f_bavail, f_files, f_favail = 4096, 2560, 0, 0


def test_the_reserve_of_the_disk_is_kept_while_an_archive_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.zip").write_bytes(zipped_files({"a": "0" * (40 << 20)}))
    (tmp_path / "many.tar").write_bytes(tarred(*((f"f{n}", "", 0o644) for n in range(5000))))
    monkeypatch.setattr(os, "statvfs", lambda _: AlmostFull())
    for name in ("one.zip", "many.tar"):
        with pytest.raises(DiskFull, match="A toolchain needs room: 10 MB are free"):
            unpack.unpack(tmp_path / name, tmp_path / f"out-{name}")
    assert (tmp_path / "out-one.zip/a").stat().st_size < 20 << 20


def test_the_reserve_of_the_disk_is_kept_during_a_download(
    builds: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds.elixir("1.18.9", "27", archive=bytes(40 << 20))
    elixir, _ = mirror.pair(builds.url, parse("1.18.9"))
    monkeypatch.setattr(os, "statvfs", lambda _: AlmostFull())
    with pytest.raises(DiskFull, match="10 MB are free"):
        mirror.download(builds.url, elixir, tmp_path / "archive")
    assert (tmp_path / "archive").stat().st_size < 20 << 20


def test_a_checksum_holds_for_what_is_unpacked(
    chains: OwnToolchains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tmp_path / "both.zip"
    both.write_bytes(small_elixir("1.18.4"))
    summed = hashlib.sha256(both.read_bytes()).hexdigest()
    with pytest.raises(InvalidInput, match=r"A checksum is for an archive, and .* is a directory"):
        chains.install(Order("", paths=(str(tmp_path),), sha256=summed), lambda _: None)

    def swapped(archive: Path, target: Path) -> None:
        both.write_bytes(b"another one")
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == summed
        target.mkdir()

    monkeypatch.setattr(unpack, "unpack", swapped)
    with pytest.raises(InvalidInput, match="There is no Elixir and no OTP"):
        fetch.get(tmp_path, Order("", paths=(str(both),), sha256=summed.upper()))


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "file:///etc/passwd", "HTTPS://[x/"])
def test_a_mirror_cannot_redirect_to_anything(builds: Mirror, place: str) -> None:
    def redirect(_path: str, handler: object) -> bool:
        handler.send_response(302)  # type: ignore[attr-defined]
        handler.send_header("Location", place)  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        return True

    builds.fault = redirect
    with pytest.raises(CommandFailed):
        mirror.pair(builds.url, parse("1.18"))


def test_https_is_not_left_by_a_redirection() -> None:
    def redirected(begin: str, to: str) -> str:
        request = urllib.request.Request(begin)
        answer = io.BytesIO()
        handler = mirror._Redirects()
        followed = handler.redirect_request(request, answer, 302, "", HTTPMessage(), to)
        return followed.full_url if followed else ""

    assert redirected("https://a.example/x", "https://b.example/y") == "https://b.example/y"
    assert redirected("http://a.example/x", "https://b.example/y") == "https://b.example/y"
    for to in ("http://a.example/x", "ftp://a.example/x", "HTTP://a.example/x"):
        with pytest.raises(urllib.error.URLError, match="which is not followed"):
            redirected("https://a.example/x", to)


def test_a_length_that_is_none(builds: Mirror) -> None:
    def answer(_path: str, handler: object) -> bool:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.send_header("Content-Length", "1" * 5000)  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        return True

    builds.fault = answer
    with pytest.raises(CommandFailed, match="it gave no valid length"):
        mirror.pair(builds.url, parse("1.18"))


def test_lists_and_files_of_any_length_are_read_in_a_short_time(tmp_path: Path) -> None:
    began = time.process_time()
    many = "\n".join(f"v1.18.{n}-otp-27 x y {'a' * 64}" for n in range(60_000))
    others = "\n".join(f"OTP-27.{n} x y {'a' * 64}" for n in range(60_000))
    elixir, otp = mirror.elixirs(many), mirror.otps(others, "p")
    assert (len(elixir), len(otp)) == (mirror.MAX_LINES, mirror.MAX_LINES)
    assert mirror.newest(parse("1.18/26"), elixir, otp) is None
    found = mirror.newest(parse("1.18"), elixir, otp)
    assert found is not None
    assert str(found[1].version) == "27.19999"
    assert time.process_time() - began < 10

    (tmp_path / "lib/elixir/ebin").mkdir(parents=True)
    app = tmp_path / assemble.ELIXIR_APP
    with app.open("wb") as file:
        file.truncate(50 << 30)
    assert assemble.elixir_version(tmp_path) is None


def test_a_mirror_that_others_can_change() -> None:
    for url in ("http://m.example", "http://127.0.0.1.m.example/", "http://localhost.m.example:80",
                "http://10.0.0.1:8080/hex", "http://[fd00::1]/"):  # fmt: skip
        assert order_module.is_open(url), url
    for url in ("https://m.example", "http://127.0.0.1:80/x", "http://localhost", "http://[::1]:8",
                "http://127.0.0.1"):  # fmt: skip
        assert not order_module.is_open(url), url


def test_a_removal_that_the_helper_gives_up_is_an_error_for_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_verb: str, **_: object) -> None:
        raise HelperFailed("Another toolchain is being installed.", reason=client.INVALID)

    chains = RootsToolchains()
    made = SimpleNamespace(name="1.18.4-otp-27.3.4")
    monkeypatch.setattr(RootsToolchains, "installed", lambda _: [made])
    monkeypatch.setattr(client, "ask", refuse)
    with pytest.raises(InvalidInput, match="Another toolchain is being installed"):
        chains.remove(made.name)
