"""What speaks against a second instance beside the live one."""

from __future__ import annotations

import gzip
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatling.beam import chunks
from gatling.beam.answers import typed
from gatling.beam.holds import Holds
from gatling.deploy.plan import exclusive
from gatling.errors import NodeUnreachable
from gatling.platform.embedded.home import EmbeddedPaths
from gatling.platform.server.home import ServerPaths

if TYPE_CHECKING:
    from pathlib import Path

EPHEMERAL = range(32768, 61000)


def against(**held: Any) -> list[str]:
    """For an app whose own ports are 20001 and 20002, with a directory of the instance's own."""
    return list(exclusive.against(Holds(**held), "v4", {20001, 20002}, ("/slot/1",), EPHEMERAL))


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"listeners": [("tcp", "192.0.2.1", 20001), ("tcp", "127.0.0.1", 20002)]},
        {"listeners": [("udp", "192.0.2.1", 40000)]},
        {"files": ["/var/lib/app/app.log", "/var/lib/app/app.db", "/var/lib/app/app.db-wal"]},
        {"dets": ["/slot/1/tmp/cache"], "sockets": ["/slot/1/tmp/own"], "mnesia": "/slot/1/m"},
    ],
    ids=["nothing", "own ports", "any port", "files that two may write", "of the instance alone"],
)
def test_what_two_can_have_is_no_reason(held: dict[str, Any]) -> None:
    assert against(**held) == []


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"mnesia": "/d/mnesia"}, "has the Mnesia tables in /d/mnesia open"),
        ({"dets": ["/d/a"]}, "has the DETS file /d/a open"),
        ({"dets": ["/d/a", "/slot/10/b"]}, "has the DETS files /d/a and /slot/10/b open"),
        ({"disk_log": ["/d/log"]}, "has the disk_log file /d/log open"),
        ({"files": ["/d/1.cub", "/d/x"]}, "has the CubDB file /d/1.cub open"),
        (
            {
                "listeners": [
                    ("tcp", "::", 9568),
                    ("tcp", "192.0.2.1", 9568),
                    ("udp", "192.0.2.1", 53),
                ]
            },
            "listens on tcp port 9568 and udp port 53, which is not derived from PORT",
        ),
        ({"sockets": ["/run/app"]}, "listens on the socket /run/app, which is not derived"),
    ],
)
def test_what_only_one_can_have_is_named(held: dict[str, Any], said: str) -> None:
    (reason,) = against(**held)
    assert reason.startswith(f"v4 {said}")


@pytest.mark.parametrize(
    "answer",
    [
        42,
        [b"ok"],
        {"dets": 1},
        {"dets": [b"x" * 5000]},
        {"files": [b"x"] * 51},
        {"listeners": [[b"tcp", b"::", 70000]]},
    ],
    ids=str,
)
def test_an_answer_that_is_not_ours_is_none(answer: Any) -> None:
    with pytest.raises(NodeUnreachable):
        typed(answer, Holds, "holds")


def test_the_files_of_mnesia_are_named_as_a_whole() -> None:
    files = ["/d/mnesia/LATEST.LOG", "/d/mnesia/book.DCD"]
    assert len(against(mnesia="/d/mnesia", disk_log=files, files=files)) == 1


def test_what_an_instance_has_for_itself_depends_on_the_home(tmp_path: Path) -> None:
    embedded = EmbeddedPaths(tmp_path, "shop")
    assert embedded.private(2) == (str(embedded.slot(2)),)
    server = ServerPaths(tmp_path / "home", "shop")
    assert "/tmp" in server.private(2)
    held = Holds(dets=["/var/lib/a", "/tmp/b"])
    (reason,) = exclusive.against(held, "v4", set(), server.private(2), EPHEMERAL)
    assert "/var/lib/a open" in reason
    assert "/tmp/b" not in reason


def compiled(directory: Path, module: str, body: str) -> Path:
    source = directory / f"{module}.erl"
    source.write_text(f"-module({module}).\n-export([f/0]).\nf() -> {body}.\n")
    subprocess.run(["erlc", "-o", directory, source], check=True)
    return directory / f"{module}.beam"


def test_a_node_that_cannot_be_asked_is_judged_by_its_modules(tmp_path: Path) -> None:
    for app in ("shop-0.1.0", "kernel-9.0"):
        (tmp_path / "lib" / app / "ebin").mkdir(parents=True)
    ebin = tmp_path / "lib/shop-0.1.0/ebin"
    compiled(ebin, "plain", "lists:reverse([])")
    compiled(tmp_path / "lib/kernel-9.0/ebin", "of_otp", "disk_log:all()")
    assert exclusive.unasked(tmp_path, "v4", "It refuses.") == ()
    beam = compiled(ebin, "book", "mnesia:start()")
    said = "v4 could not be asked what it has open (It refuses), and book names mnesia"
    assert exclusive.unasked(tmp_path, "v4", "It refuses.") == (said,)
    beam.write_bytes(gzip.compress(beam.read_bytes()))  # as strip_beams may have it
    assert exclusive.unasked(tmp_path, "v4", "It refuses.") == (said,)


def test_atoms_are_read_as_otp_28_writes_them_too() -> None:
    long = "a" * 300
    table = (
        b"\xff\xff\xff\xfe" + b"\x60mnesia" + bytes([1 << 5 | 0b1000, 300 - 256]) + long.encode()
    )
    padded = table + bytes(-len(table) % 4)
    beam = b"FOR1\0\0\0\0BEAMAtU8" + len(table).to_bytes(4, "big") + padded
    assert chunks.atoms(beam) == {"mnesia", long}


@pytest.mark.parametrize(
    "content", [b"", b"FOR1", b"FOR1\0\0\0\0BEAMAtU8\0\0\0\1\1", b"\x1f\x8bno"]
)
def test_what_is_no_compiled_module_names_nothing(content: bytes) -> None:
    assert chunks.atoms(content) == frozenset()
