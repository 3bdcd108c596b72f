"""What an installation consists of: the same list in a dry run and in a real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatling.errors import InvalidInput
from gatling.host import changes as installation
from gatling.host import install, machine
from gatling.host.changes import Change, manual_page, needed
from gatling.host.system_files import system_files
from gatling.platform import open as opening


def test_what_follows_from_a_change_is_listed_although_nothing_is_made() -> None:
    """A real run makes each change before it looks at the next, a dry run makes none."""
    state = {"file": "old", "loaded": True}

    def write() -> None:
        state.update(file="new", loaded=False)

    every = [
        Change("user", lambda: False, print, renews=True),
        Change("write", lambda: state["file"] != "new", write, renews=True),
        Change("load", lambda: not state["loaded"], lambda: state.update(loaded=True),
               renews=True, follows=True),
        Change("reload", lambda: False, print, follows=True),
        Change("other", lambda: False, print),
    ]  # fmt: skip
    dry = [change.what for change in needed(every)]
    real = []
    for change in needed(every):
        real.append(change.what)
        change.make()
    assert dry == real == ["write", "load", "reload"]
    assert list(needed(every)) == []


def test_the_manual_page_is_written_where_its_text_differs(tmp_path: Path) -> None:
    file = tmp_path / "man/man1/gatling.1"
    for text in ("first", "second"):
        change = manual_page(file, text)
        assert change.what == f"write {file}"
        (again,) = needed([change])
        again.make()
        assert file.read_text() == text
        assert file.stat().st_mode & 0o777 == 0o644
        assert list(needed([change])) == []


def link_of(monkeypatch: pytest.MonkeyPatch, command: Path) -> Change:
    """The change that links the command."""
    monkeypatch.setattr(installation, "COMMAND", command)
    (found,) = [one for one in installation.changes() if one.what.startswith(f"link {command} ")]
    return found


def test_another_installation_whose_command_is_replaced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one from a package beside one from a clone."""
    command, other = tmp_path / "gatling", tmp_path / "pipx/bin/gatling"
    assert link_of(monkeypatch, command).what == f"link {command} to this installation"
    other.parent.mkdir(parents=True)
    other.touch()
    command.symlink_to(other)
    change = link_of(monkeypatch, command)
    assert change.needed()
    assert change.what == (
        f"link {command} to this installation, instead of {other}, which stays there"
    )
    change.make()
    assert other.exists()
    change = link_of(monkeypatch, command)
    assert (change.needed(), "instead of" in change.what) == (False, False)


def test_what_root_has_in_its_environment_reaches_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor Gatling's own commands, which become another user's processes (`as_owner`)."""
    said = tmp_path / "environment"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "root's own")
    monkeypatch.setenv("GIT_DIR", "/root/x")
    machine.run(["/bin/sh", "-c", f"env > {said}"])
    assert {line.partition("=")[0] for line in said.read_text().splitlines()} <= {
        "PATH", "LANG", "HOME", "PWD", "SHLVL", "_",
    }  # fmt: skip
    ran: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(machine, "run", lambda argv, env: ran.append((argv, env)))
    machine.as_owner("recover", "--units")
    ((argv, env),) = ran
    assert argv[-2:] == ["recover", "--units"]
    assert set(env) == {"PATH", "LANG", "HOME"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_a_command_of_root_s_goes_on_without_what_root_has_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an app whose node is hostile could look for root's secrets in Gatling's memory."""
    said = tmp_path / "environment"
    said.touch()
    said.chmod(0o666)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(opening, "server_owner", lambda: 65534)
    monkeypatch.setattr(opening, "SERVER", Path("/"))
    monkeypatch.delenv("GATLING_HOME", raising=False)
    for name, value in (("AWS_SECRET_ACCESS_KEY", "x"), ("SSH_AUTH_SOCK", "/run/agent"),
                        ("LC_ALL", "C.UTF-8"), ("GATLING_APP", "shop")):  # fmt: skip
        monkeypatch.setenv(name, value)
    opened = os.open(said, os.O_WRONLY)
    child = os.fork()
    if child == 0:  # only a process of its own can change its user
        try:
            opening.step_down()
            os.write(opened, "\n".join([str(os.geteuid()), *os.environ]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    user, *variables = said.read_text().splitlines()
    assert user == "65534"
    assert {"AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"} & {*variables} == set()
    assert {"PATH", "HOME", "LC_ALL", "GATLING_APP"} <= {*variables}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_refuses_what_the_real_run_refuses(
    monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """Such as a package below a directory that is root's alone: its helper could not be run."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(install, "systemd_version", lambda: machine.OLDEST_SYSTEMD)
    monkeypatch.setattr(install, "exposed", lambda path: path)
    monkeypatch.setattr(install, "changes", lambda _: pytest.fail("it was looked for changes"))
    said: list[str] = []
    with pytest.raises(InvalidInput, match="Root's helper cannot run from this installation"):
        install.install(said.append, manual="", dry_run=dry_run)
    assert said == []


def test_the_user_manager_of_gatling_is_masked() -> None:
    """By an empty file: systemd.unit(5). It would start and end with SSH commands."""
    (text,) = [text for file, text in system_files().items() if file.name.startswith("user@")]
    assert text == ""


def test_the_runtime_directory_of_gatling_is_kept() -> None:
    """systemd would mount it with each SSH command, and unmount it."""
    found = [text for file, text in system_files().items() if "user-runtime-dir@" in str(file)]
    assert ["StopWhenUnneeded=no" in text for text in found] == [True]
