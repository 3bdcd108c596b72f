"""Archives of bad people, and damaged ones: nothing of them gets anywhere."""

from __future__ import annotations

import copy
import gzip
import io
import json
import sqlite3
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatling.errors import GatlingError, InvalidInput
from gatling.host import archive, backup
from gatling.releases.safe_copy import leads_out
from tests.host.archives import (
    DIR,
    HARD,
    REG,
    SYM,
    V1,
    Server,
    after,
    filled,
    member,
    read,
    refused,
    write,
)
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.host.archives import Members


ADDED = {
    "up": ("apps/shop/state", member("apps/shop/state/../../../x")),
    "up at the end": ("apps/shop/state", member("apps/shop/state/..", DIR)),
    "dot": ("apps/shop/state", member("apps/shop/state/./x")),
    "nothing": ("apps/shop/state", member("apps/shop/state//x")),
    "absolute": ("apps/shop/state", member("/etc/cron.d/x")),
    "top": ("authorized_keys", member("home/.ssh/authorized_keys")),
    "device": ("apps/shop/state", member("apps/shop/state/a", tarfile.CHRTYPE)),
    "block": ("apps/shop/state", member("apps/shop/state/a", tarfile.BLKTYPE)),
    "fifo": ("apps/shop/state", member("apps/shop/state/a", tarfile.FIFOTYPE)),
    "contiguous": ("apps/shop/state", member("apps/shop/state/a", tarfile.CONTTYPE)),
    "unknown kind": ("apps/shop/state", member("apps/shop/state/a", b"Z")),
    "hook": ("apps/shop/git", member("apps/shop/git/hooks", DIR)),
    "config": ("apps/shop/git", member("apps/shop/git/config")),
    "alternates": ("apps/shop/git/objects", member("apps/shop/git/objects/info/alternates")),
    "link in git": ("apps/shop/git/refs", member("apps/shop/git/refs/heads", SYM, "/etc")),
    "link in logs": ("apps/shop/logs", member("apps/shop/logs/deployment-0.log", SYM, "/etc/x")),
    "log of no job": ("apps/shop/logs", member("apps/shop/logs/job-A.log")),
    "newline": ("apps/shop/logs", member("apps/shop/logs/deployment-1.log\n")),
    "build": ("apps/shop", member("apps/shop/build", DIR)),
    "work": ("apps/shop", member("apps/shop/slots", DIR)),
    "file as directory": ("apps/shop/state", member("apps/shop/state/a/b")),
    "out of a release": (V1, member(f"{V1}/a", SYM, "/etc/passwd")),
    "up out of a release": (V1, member(f"{V1}/a", SYM, "../../../git")),
    "back through a link": (V1, member(f"{V1}/a", SYM, "bin/../../x")),
    "empty link": (V1, member(f"{V1}/a", SYM, "")),
    "hard link to state": (V1, member(f"{V1}/a", HARD, "apps/shop/state/x")),
    "hard link out": (V1, member(f"{V1}/a", HARD, "/etc/shadow")),
    "hard link to a link": (f"{V1}/start", member(f"{V1}/t", HARD, f"{V1}/start")),
    "hard link to itself": (V1, member(f"{V1}/a", HARD, f"{V1}/a")),
    "hard link in state": ("apps/shop/state", member("apps/shop/state/a", HARD, f"{V1}/bin/shop")),
    "release 0": ("apps/shop/releases", member("apps/shop/releases/v0", DIR)),
    "release x": ("apps/shop/releases", member("apps/shop/releases/incoming", DIR)),
    "long part": ("apps/shop/state", member("apps/shop/state/" + "a" * 256)),
    "long name": ("apps/shop/state", member("apps/shop/state/" + "a/" * 1950 + "a")),
    "other app": ("apps", member("apps/evil", DIR)),
    "app newline": ("apps", member("apps/a\nb", DIR)),
    "app dots": ("apps", member("apps/..", DIR)),
    "app hidden": ("apps", member("apps/.restoring", DIR)),
    "twice": ("apps/shop/state/deep", member("apps/shop/state/deep", DIR)),
    "file over link": ("apps/shop/state/link", member("apps/shop/state/link")),
    "below a link": ("apps/shop/state/link", member("apps/shop/state/link/x")),
    "out of order": ("apps/shop/state/link", member("apps/shop/state/a")),
    "after the end": ("end.json", member("apps/shop/state/z")),
}  # fmt: skip


@pytest.mark.parametrize("what", ADDED)
def test_what_does_not_belong_into_an_archive(what: str, new: Server, made: Path) -> None:
    name, (info, content) = ADDED[what]
    refused(new, write(made, after(read(made), name, (copy.copy(info), content))))


def test_a_name_with_a_nul(new: Server, made: Path) -> None:
    info, content = member("apps/shop/state/x")
    info.pax_headers = {"path": "apps/shop/state/a\0b"}  # nothing else can carry one
    refused(new, write(made, after(read(made), "apps/shop/state", (info, content))), "unexpected")


def changed(members: Members, name: str, change: Callable[[bytes], bytes]) -> Members:
    return [(info, change(content) if info.name == name else content) for info, content in members]


def of_manifest(**values: object) -> Callable[[Members], Members]:
    def change(content: bytes) -> bytes:
        return json.dumps(json.loads(content) | values).encode()

    return lambda members: changed(members, "manifest.json", change)


def of_records(sql: str) -> Callable[[Members], Members]:
    def change(content: bytes) -> bytes:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.deserialize(content)
        db.executescript(sql)
        raw: bytes = db.serialize()
        db.close()
        return raw

    return lambda members: changed(members, "state.db", change)


def without(prefix: str) -> Callable[[Members], Members]:
    return lambda members: [m for m in members if not m[0].name.startswith(prefix)]


@pytest.mark.parametrize(
    "change",
    [
        of_manifest(format=3), of_manifest(format=None), of_manifest(apps=["shop"]),
        of_manifest(apps=["idle", "shop", "../x"]), of_manifest(apps="idle"), of_manifest(apps=[1]),
        of_manifest(apps=["idle", "shop", "third"]), of_manifest(machine="vax"),
        of_manifest(databases=["shop"]), of_manifest(databases=["../x"]), of_manifest(databases=1),
        of_manifest(padding="x" * (1 << 20)),
        lambda m: changed(m, "manifest.json", lambda _: b"[]"),
        lambda m: changed(m, "manifest.json", lambda _: b"{"),
        lambda m: changed(m, "manifest.json", lambda _: b"[" * 100_000),
        lambda m: changed(m, "state.db", lambda _: b"not a database" * 100),
        lambda m: changed(m, "state.db", lambda _: b""),
        of_records("CREATE TRIGGER t AFTER INSERT ON audit BEGIN DELETE FROM apps; END"),
        of_records("CREATE VIEW v AS SELECT 1"),
        of_records("UPDATE domains SET domain = 'a; } server {' WHERE app = 'shop'"),
        of_records("UPDATE ports SET port = 22 WHERE app = 'shop' AND slot = 1 AND use = 'http'"),
        of_records("UPDATE apps SET settings = '[]'"), of_records("UPDATE apps SET settings = '{'"),
        of_records("UPDATE apps SET settings = '{\"no.such\": \"1\"}'"),
        of_records("UPDATE keys SET blob = 'A' || char(10) || 'ssh-rsa AAAA'"),
        of_records("UPDATE apps SET live_release = 7 WHERE name = 'shop'"),
        of_records("UPDATE apps SET name = '../x' WHERE name = 'idle'"),
        of_records("DROP TABLE ports"), of_records("PRAGMA user_version = 99"),
        without("manifest.json"), without("state.db"), without("end.json"), without("apps"),
        without("apps/shop"), without(f"{V1[:-1]}2"), lambda m: m[:5], lambda m: m[::-1],
        lambda _: [], lambda m: [*m, m[-1]], lambda m: [m[0], *m],
    ],
)  # fmt: skip
def test_archives_whose_parts_do_not_fit(
    change: Callable[[Members], Members], new: Server, made: Path
) -> None:
    members = read(made)
    refused(new, write(made, change(members)), kind=GatlingError)


def test_an_archive_that_lacks_members(new: Server, made: Path) -> None:
    members = read(made)
    del members[-3]
    refused(new, write(made, members, count=len(members)), "missing or extra")


def test_files_that_are_no_archives(new: Server, made: Path) -> None:
    whole = made.read_bytes()
    tar = gzip.decompress(whole)
    renamed = tar.replace(b"end.json", b"End.json")
    for content in (b"", b"text", tar, whole[: len(whole) // 2], whole[:-9], whole + b"more",
                    whole[:-6] + b"\0\0" + whole[-4:], gzip.compress(b""), gzip.compress(renamed),
                    gzip.compress(b"x" * 600), gzip.compress(tar[: len(tar) // 2])):  # fmt: skip
        made.write_bytes(content)
        refused(new, made)
    refused(new, made.with_name("missing"), kind=GatlingError)
    refused(new, made.parent, kind=GatlingError)


def test_names_and_contents_that_never_end_are_not_read(new: Server, made: Path) -> None:
    """A kilobyte can stand for a gigabyte."""
    head = tarfile.TarInfo("x")
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        head.type, head.size = kind, 1 << 33
        made.write_bytes(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
        refused(new, made, "too large")


PARTS = st.sampled_from(["apps", "shop", "idle", "state", "git", "objects", "refs", "releases",
                         "v1", "v2", "..", ".", "", "a", "a\nb", "\udcff", "\0", "logs", "end.json",
                         "deployment-2.log", "x" * 300])  # fmt: skip

KINDS = st.sampled_from([REG, REG, DIR, DIR, SYM, HARD, b"3", b"S", b"L", b"x"])

EXTRA = st.tuples(st.lists(PARTS, min_size=1, max_size=7), KINDS, st.lists(PARTS, max_size=5))


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("valid")
    backup.backup(root / "b.tar.gz", filled(root / "old").root)
    return root / "b.tar.gz"


EXAMPLES = settings(max_examples=scaled(75, 300), suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(extras=st.lists(EXTRA, min_size=1, max_size=3), data=st.data())
def test_whatever_is_let_through_lies_where_it_may(
    valid: Path, extras: list[Any], data: st.DataObject
) -> None:
    members = read(valid)
    for parts, kind, link in extras:
        at = data.draw(st.integers(0, len(members)))
        members.insert(at, member("/".join(parts), kind, "/".join(link)))
    check_members(io.BytesIO(write(valid.with_name("fuzzed.tar.gz"), members).read_bytes()))


@EXAMPLES
@given(data=st.data())
def test_damaged_bytes(valid: Path, data: st.DataObject) -> None:
    raw = bytearray(gzip.decompress(valid.read_bytes()))
    for _ in range(data.draw(st.integers(1, 4))):
        block = data.draw(st.integers(0, len(raw) // 512 - 1)) * 512
        raw[block + data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    check_members(io.BytesIO(gzip.compress(bytes(raw), 1)))


def check_members(file: io.BytesIO) -> None:
    seen: dict[tuple[str, ...], bytes] = {(): DIR}
    try:
        for info, parts, _ in archive.Archive(file).members():
            assert parts not in seen
            assert seen[parts[:-1]] == DIR
            assert not {"", ".", ".."} & set(parts)
            assert parts[0] in archive.TOP
            assert parts[1:2] in ((), ("idle",), ("shop",))
            if info.issym():
                within = parts[2] == "state" or not leads_out(info.linkname, parts[4:-1])
                assert within
            if info.islnk():
                target = tuple(info.linkname.split("/"))
                assert seen[target] == REG
                assert target[:3] == parts[:3]
                assert parts[2] == "releases"
            seen[parts] = REG if info.islnk() else info.type
    except InvalidInput:
        pass
