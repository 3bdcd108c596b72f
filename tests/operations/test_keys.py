"""Pasted keys, hostile ones too, and the authorized_keys file that comes of them."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.errors import CommandFailed, Exit, GatlingError, InvalidInput, MissingProgram
from gatling.operations import keys
from gatling.state.keys import Key
from tests.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.state.keys import Role
    from tests.conftest import World

EXAMPLES = settings(max_examples=scaled(100, 500))
COMMAND = "/var/lib/gatling/home/bin/gatling ssh-command"


def packed(*fields: bytes) -> str:
    """A key's blob of these fields."""
    raw = b"".join(len(field).to_bytes(4) + field for field in fields)
    return base64.b64encode(raw).decode()


def rsa(bits: int) -> str:
    modulus = b"\0" * (bits % 8 == 0) + (1 << bits - 1 | 1).to_bytes((bits + 7) // 8)
    return f"ssh-rsa {packed(b'ssh-rsa', bytes((1, 0, 1)), modulus)}"


# the base point of the curve (SEC 2, 2.4.2), since ssh-keygen takes no other numbers than points
POINT = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
ED25519 = f"ssh-ed25519 {packed(b'ssh-ed25519', bytes(range(32)))}"
ECDSA = f"ecdsa-sha2-nistp256 {packed(b'ecdsa-sha2-nistp256', b'nistp256', POINT)}"
OFF = POINT[:-1] + b"\0"
"""No point of the curve."""
SK_ED25519 = "sk-ssh-ed25519@openssh.com " + packed(
    b"sk-ssh-ed25519@openssh.com", bytes(range(32)), b"ssh:"
)
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com " + packed(
    b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", POINT, b"ssh:"
)


def made_by(name: str, line: str, role: Role = "deployer") -> Key:
    public = keys.parse(line)
    return Key(name, public.type, public.blob, public.fingerprint, role, ("*",), "2026")


def generated(directory: Path, *options: str) -> str:
    file = directory / "key"
    command = ["ssh-keygen", "-q", "-N", "", "-C", "two words", "-f", str(file), *options]
    subprocess.run(command, check=True)
    return file.with_suffix(".pub").read_text()


@pytest.mark.parametrize(
    "options",
    [("-t", "ed25519"), ("-t", "ecdsa", "-b", "256"), ("-t", "ecdsa", "-b", "384"),
     ("-t", "ecdsa", "-b", "521"), ("-t", "rsa", "-b", "2048"), ("-t", "rsa", "-b", "3072")],
    ids=" ".join,
)  # fmt: skip
def test_every_type_of_key_that_ssh_keygen_makes(tmp_path: Path, options: tuple[str, ...]) -> None:
    line = generated(tmp_path, *options)
    key = made_by("ann@laptop", line)
    assert line.split()[:2] == [key.type, key.blob]
    file = tmp_path / "new/.ssh/authorized_keys"
    keys.write(file, keys.authorized_keys([key], COMMAND))
    told = subprocess.run(
        ["ssh-keygen", "-l", "-f", file], check=True, capture_output=True, text=True
    ).stdout.split()
    assert told[1:3] == [key.fingerprint, "ann@laptop"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("line", [SK_ED25519, SK_ECDSA], ids=["ed25519", "ecdsa"])
def test_keys_of_hardware(line: str) -> None:
    assert line == f"{keys.parse(line).type} {keys.parse(line).blob}"


@pytest.mark.parametrize(
    "text",
    [ED25519, f"{ED25519}\n", f"  {ED25519}\r\n", f"\n\n{ED25519} ann@laptop\n",
     ED25519.replace(" ", "\t"), f'{ED25519} a "b" #c, command=d'],
)  # fmt: skip
def test_only_type_and_key_are_kept(text: str) -> None:
    assert keys.parse(text) == keys.parse(ED25519)
    assert keys.parse(text).blob in ED25519


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "No key was given"),
        (" \n ", "No key was given"),
        ("hello", "not a public key"),
        (f"{ED25519}\n{SK_ED25519}", "exactly one key"),
        (f"{ED25519}\n\n# a remark", "exactly one key"),
        (f"{ED25519} a\rb", "exactly one key"),
        (f"{ED25519} a\0b", "control characters"),
        (f"{ED25519} a\x85b", "control characters"),
        (f"{ED25519} a\u2028b", "control characters"),
        (f'command="x" {ED25519}', "Options are not accepted"),
        (f"no-pty {ED25519}", "Options are not accepted"),
        (f'from="*",pty\t{ED25519} x', "Options are not accepted"),
        ("ssh-ed25519", "cut off"),
        ("ssh-ed25519 !!!!", "not base64"),
        ("ssh-ed25519 AAAA=", "damaged"),
        (f"ssh-ed25519 {ECDSA.split()[1]}", "damaged"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "damaged"),
        (ED25519[:-4], "damaged"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519', bytes(31))}", "damaged"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519')}", "damaged"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519', bytes(32), b'more')}", "damaged"),
        (f"ssh-ed25519 {base64.b64encode(bytes(3)).decode()}", "damaged"),
        (f"ecdsa-sha2-nistp256 {packed(b'ecdsa-sha2-nistp256', b'nistp384', POINT)}", "damaged"),
        (f"ecdsa-sha2-nistp384 {packed(b'ecdsa-sha2-nistp384', b'nistp384', POINT)}", "damaged"),
        (SK_ED25519.split()[0] + " " + packed(SK_ED25519.split()[0].encode()), "damaged"),
        (rsa(1024), "this one has 1024"),
        (rsa(2047), "this one has 2047"),
        (rsa(16392), "damaged"),
        (f"ssh-rsa {packed(b'ssh-rsa', bytes((3,)), bytes((255,)) * 300)}", "damaged"),
        (SK_ECDSA.replace(" ", " AAAA"), "damaged"),
        ("ecdsa-sha2-nistp256 " + packed(b"ecdsa-sha2-nistp256", b"nistp256", OFF), "damaged"),
        (f"ssh-dss {packed(b'ssh-dss')}", "DSA"),
        (f"ssh-ed25519-cert-v01@openssh.com {packed(b'x')}", "certificate"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "another format"),
        ("ssh-ed25519 " + "A" * keys.MAX_TEXT, "at most"),
    ],
)
def test_what_is_no_key(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        keys.parse(text)
    assert caught.value.hint


def test_another_spelling_of_a_key_is_the_same_key() -> None:
    # spare bits of the last character, which some decoders take
    other = f"{SK_ED25519[:-2]}{chr(ord(SK_ED25519[-2]) + 1)}="
    with contextlib.suppress(InvalidInput):
        assert keys.parse(other).fingerprint == keys.parse(SK_ED25519).fingerprint


def test_without_ssh_keygen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgram, match="ssh-keygen is not installed") as caught:
        keys.parse(ED25519)
    assert caught.value.hint.endswith("apt install openssh-client")


def test_an_ssh_keygen_that_fails_is_no_fault_of_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "ssh-keygen"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for script in ("kill -SEGV $$", "exit 1", "echo whatever"):
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        with pytest.raises(CommandFailed, match="ssh-keygen"):
            keys.parse(ED25519)


def test_rsa_keys_that_are_long_enough() -> None:
    assert keys.parse(rsa(2048)).type == keys.parse(rsa(16384)).type == "ssh-rsa"


def test_a_private_key_is_refused_and_never_repeated(tmp_path: Path) -> None:
    generated(tmp_path, "-t", "ed25519")
    secret = (tmp_path / "key").read_text()
    for text in (secret, f"{ED25519}\n{secret}", "PuTTY-User-Key-File-3: ssh-ed25519\n" + secret):
        with pytest.raises(InvalidInput, match="private key") as caught:
            keys.parse(text)
        shown = f"{caught.value.what} {caught.value.hint} {caught.value.log}"
        assert not any(line in shown for line in secret.splitlines())
    with pytest.raises(InvalidInput) as caught:
        keys.parse("hunter2")
    assert "hunter2" not in f"{caught.value.what} {caught.value.hint}"


def test_the_file_word_by_word() -> None:
    lines = keys.authorized_keys(
        [
            made_by("ann", f"{ED25519} a comment", "admin"),
            made_by("bob", SK_ED25519, "deployer"),
            made_by("rita", ECDSA, "reader"),
        ],
        COMMAND,
    ).splitlines()
    assert lines == [
        f'restrict,pty,command="{COMMAND} ann" {ED25519} ann',
        f'restrict,pty,command="{COMMAND} bob" {SK_ED25519} bob',
        f'restrict,command="{COMMAND} rita" {ECDSA} rita',
    ]
    assert keys.authorized_keys([], COMMAND) == ""


def test_a_quote_in_the_command_is_part_of_it() -> None:
    text = keys.authorized_keys([made_by("ann", ED25519)], '"/a b/gatling" ssh-command')
    assert r'command="\"/a b/gatling\" ssh-command ann" ' in text


@pytest.mark.parametrize("command", ["", "a\nb", "a\\", "a\0"])
def test_a_command_that_no_line_can_hold(command: str) -> None:
    with pytest.raises(GatlingError, match="Not a command"):
        keys.authorized_keys([made_by("ann", ED25519)], command)


@pytest.mark.parametrize(
    ("name", "kind", "blob"),
    [
        ("a b", "ssh-ed25519", "AAAA"),
        ('a" x', "ssh-ed25519", "AAAA"),
        ("ann", "ssh-dss", "AAAA"),
        ("ann", "ssh-ed25519", "AA AA"),
        ("ann", "ssh-ed25519", "AAAA\nssh-ed25519 BBBB"),
    ],
)
def test_a_record_that_was_tampered_with_is_not_written(name: str, kind: str, blob: str) -> None:
    with pytest.raises(GatlingError, match="Not a key"):
        keys.authorized_keys([Key(name, kind, blob, "", "admin", ("*",), "")], COMMAND)


PIECES = st.sampled_from(
    [
        ED25519, ECDSA, SK_ED25519, "ssh-ed25519", ED25519.split()[1], 'command="touch canary"',
        "command=\"x\",no-pty", "restrict", "pty", "cert-authority", 'environment="LD_PRELOAD=x"',
        'from="*"', "\n", "\r\n", "\r", "\0", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\t", " ",
        "#", '"', "\\", ",", "=", "A" * 100, "ann", "\ufeff", "é",
    ]
)  # fmt: skip
HOSTILE = st.one_of(
    st.lists(PIECES, max_size=8).map(" ".join),
    st.lists(PIECES, max_size=8).map("".join),
    st.text(max_size=200),
    st.text(max_size=40).map(f"{ED25519} {{}}".format),
    st.text(max_size=40).map(f"{{}} {ED25519}".format),
    st.text(max_size=40).map(f"{ED25519}{{}}".format),
    st.binary(max_size=60).map(lambda raw: f"ssh-ed25519 {base64.b64encode(raw).decode()}"),
    st.lists(st.binary(max_size=70), max_size=4).map(
        lambda fields: f"ssh-ed25519 {packed(b'ssh-ed25519', *fields)}"
    ),
)
LINE = re.compile(
    rf'restrict(,pty)?,command="{COMMAND} [a-z]+"'
    r" (ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+ [a-z]+\Z"
)


@EXAMPLES
@given(st.lists(HOSTILE, max_size=3))
@example([ED25519])
@example([f"{ED25519} x\n{ED25519}"])
@example([f'{ED25519}" {ED25519}'])
def test_no_pasted_text_makes_another_line_or_command(texts: list[str]) -> None:
    taken = []
    for name, text in zip(("ann", "bob", "rita"), texts, strict=False):
        with contextlib.suppress(InvalidInput):
            taken.append(made_by(name, text))
    written = keys.authorized_keys(taken, COMMAND)
    lines = written.split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(taken) == len(written.splitlines())
    for line, key in zip(lines, taken, strict=True):
        assert LINE.match(line), line
        assert line.split('" ', 1)[1] == f"{key.type} {key.blob} {key.name}"


def test_keys_are_let_in_listed_and_removed(world: World) -> None:
    file = world.home / ".ssh/authorized_keys"
    said = world.run("server", "keys", "add", "ann", "--role", "admin", stdin=f"{ED25519} a b\n")
    assert "ann was added as admin: SHA256:" in said
    world.run("server", "keys", "add", "bob", "--app", "shop", "--app", "blog", stdin=SK_ED25519)
    world.run("server", "keys", "add", "rita", "--role", "reader", stdin=ECDSA)
    forced = f"{world.home}/bin/gatling ssh-command"
    assert file.read_text().splitlines() == [
        f'restrict,pty,command="{forced} ann" {ED25519} ann',
        f'restrict,pty,command="{forced} bob" {SK_ED25519} bob',
        f'restrict,command="{forced} rita" {ECDSA} rita',
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    listed = world.json("server", "keys", "list")
    assert [(key["name"], key["role"], key["apps"]) for key in listed] == [
        ("ann", "admin", ["*"]),
        ("bob", "deployer", ["blog", "shop"]),
        ("rita", "reader", ["*"]),
    ]
    assert listed[0]["fingerprint"] in world.run("server", "keys", "list")
    world.run("server", "keys", "remove", "bob")
    assert [line.split()[-1] for line in file.read_text().splitlines()] == ["ann", "rita"]
    actions = [entry["action"] for entry in world.json("audit")]
    assert actions == ["server keys remove", *["server keys add"] * 3]


def test_what_cannot_be_added_changes_nothing(world: World) -> None:
    world.run("server", "keys", "add", "ann", "--role", "admin", stdin=ED25519)
    file = world.home / ".ssh/authorized_keys"
    before = file.read_text()
    for arguments, stdin, status in (
        (("ann", "--app", "shop"), SK_ED25519, Exit.INVALID),
        (("bob", "--app", "shop"), ED25519, Exit.INVALID),
        (("bob", "--app", "../x"), SK_ED25519, Exit.INVALID),
        (("bob", "--role", "admin", "--app", "x"), SK_ED25519, Exit.USAGE),
        (("bob",), SK_ED25519, Exit.USAGE),
        (("Bob", "--app", "shop"), SK_ED25519, Exit.INVALID),
        (("bob", "--app", "shop"), f"pty {SK_ED25519}", Exit.INVALID),
    ):
        assert world.try_run("server", "keys", "add", *arguments, stdin=stdin).returncode == status
    assert file.read_text() == before
    assert [key["name"] for key in world.json("server", "keys", "list")] == ["ann"]


def test_a_file_that_cannot_be_written_lets_nobody_in(world: World) -> None:
    world.run("load", "x")
    (world.home / ".ssh").write_text("in the way")
    said = world.run("server", "keys", "add", "ann", "--app", "x", stdin=ED25519, ok=False)
    assert "authorized_keys cannot be written" in said
    assert world.json("server", "keys", "list") == []


def test_the_last_admin_is_asked_about(world: World) -> None:
    world.run("server", "keys", "add", "ann", "--role", "admin", stdin=ED25519)
    world.run("server", "keys", "add", "bob", "--role", "admin", stdin=SK_ED25519)
    world.run("server", "keys", "remove", "bob")
    assert "last admin" in world.run("server", "keys", "remove", "ann", ok=False, stdin="no\n")
    assert "Nothing was changed" in world.run(
        "server", "keys", "remove", "ann", "--confirm", "x", ok=False
    )
    assert len(world.json("server", "keys", "list")) == 1
    world.run("server", "keys", "remove", "ann", "--confirm", "ann")
    assert world.json("server", "keys", "list") == []
    assert (world.home / ".ssh/authorized_keys").read_text() == ""
    assert "no key 'ann'" in world.run("server", "keys", "remove", "ann", ok=False)
