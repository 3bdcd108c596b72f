"""Updating from a clone: real git, and bin/install with a stand-in for Python and pip."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.cli import run_command_line
from gatling.errors import CommandFailed, Exit, InvalidInput
from gatling.host import update
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = os.geteuid()
NOBODY = 65534
COPY = "src/gatling/host/copy_packages.py"
PYTHON = """\
#!/bin/sh
# `-m venv … PLACE` makes an environment whose programs succeed; all else succeeds, and is noted
if [ "$2" = venv ]; then
  for place; do :; done
  mkdir -p "$place/bin"
  cp "$0" "$place/bin/python"
  printf '#!/bin/sh\\necho "$0 $*" >> ROOT/ran\\n' > "$place/bin/gatling"
  chmod 755 "$place/bin/gatling"
fi
echo "$*" >> ROOT/python
[ "$1" != -VV ] || cat ROOT/python-version
"""


class Place:
    """A repository, a clone of it, and the directory in which versions are installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.upstream, self.path = root / "upstream", root / "clone"
        self.said: list[str] = []
        (self.upstream / "bin").mkdir(parents=True)
        (self.upstream / COPY).parent.mkdir(parents=True)
        script = (ROOT / "bin/install").read_text()
        assert script.count("/opt/gatling") >= 2
        script = script.replace('"$(id -u)" = 0', "0 = 0").replace("/opt/", f"{root}/opt/")
        script = script.replace("command -v apt-get", "command -v sh")
        (self.upstream / "bin/install").write_text(script)
        (self.upstream / "bin/install").chmod(0o755)
        for name in (COPY, "requirements.txt", "requirements-build.txt", "pyproject.toml",
                     "hatch_build.py", "bin/apt.sh"):  # fmt: skip
            shutil.copy(ROOT / name, self.upstream / name)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("First")
        subprocess.run(["git", "clone", "--quiet", self.upstream, self.path], check=True)
        (root / "bin").mkdir()
        (root / "bin/python3").write_text(PYTHON.replace("ROOT", str(root)))
        (root / "python-version").write_text("Python 3.11.2\n")
        (root / "bin/python3").chmod(0o755)

    def git(self, *words: str, where: Path | None = None) -> str:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        return subprocess.run(
            ["git", *who, *words], cwd=where or self.upstream, check=True, capture_output=True,
            text=True,
        ).stdout.strip()  # fmt: skip

    def commit(self, subject: str, *options: str) -> None:
        (self.upstream / "src/version").write_text(subject)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject, *options)

    def clone(self) -> update.Clone:
        return update.open_clone(self.path, {0, ME})

    def update(self, *, dry_run: bool = False, verify_signatures: bool = False) -> list[str]:
        """What an update says."""
        self.said.clear()
        clone = self.clone()
        update.update(clone, self.said.append, dry_run=dry_run, verify_signatures=verify_signatures)
        return self.said

    def subject(self) -> str:
        """The commit that is checked out in the clone."""
        return self.git("log", "-1", "--no-show-signature", "--format=%s", where=self.path)

    def install(self) -> Path:
        """Run the clone's bin/install; the version that is then in use."""
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        subprocess.run(
            [self.clone().installer], check=True, env=os.environ | {"PATH": path}, cwd="/"
        )
        return (self.root / "opt/gatling").resolve()


@pytest.fixture
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    root.chmod(0o755)
    yield Place(root)
    shutil.rmtree(root)


def test_an_installation_is_updated_from_its_clone(place: Place) -> None:
    (place.root / "opt").mkdir()
    first = place.install()
    assert update.recorded(first) == place.path
    assert place.install() == first
    place.commit("Second")
    assert place.update() == ["origin/main has 1 new commit:", place.said[1]]
    assert place.said[1].endswith("  Ann: Second (not signed)")
    second = place.install()
    assert second != first
    assert update.recorded(second) == place.path
    assert first.is_dir()  # for what still runs of it
    assert (place.root / "ran").read_text().splitlines()[
        -1
    ] == f"{second}/bin/gatling server install"
    assert place.update() == ["origin/main has no new commits."]


def test_packages_are_installed_again_only_if_they_are_others(place: Place) -> None:
    """Each environment of another Python, or of other packages, is made by pip."""
    (place.root / "opt").mkdir()

    def installed_by_pip() -> bool:
        (place.root / "python").unlink(missing_ok=True)
        place.install()
        return f"--requirement {place.path}/requirements.txt" in (place.root / "python").read_text()

    assert installed_by_pip()
    place.commit("Second")
    place.update()
    assert not installed_by_pip()
    (place.upstream / "requirements.txt").write_text("cronsim==2.7 --hash=sha256:00\n")
    place.commit("Third")
    place.update()
    assert installed_by_pip()
    (place.root / "python-version").write_text("Python 3.11.3\n")
    place.commit("Fourth")
    place.update()
    assert installed_by_pip()


def hashed(content: bytes) -> str:
    """As pip records it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def test_copied_packages_are_what_pip_has_installed(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", before], check=True)
    (modules,) = before.glob("lib/python*/site-packages")
    content = b"ONE = 1\n"
    for name in ("small", "gatling"):
        for part in (f"{name}/__pycache__", f"{name}-1.0.dist-info"):
            (modules / part).mkdir(parents=True)
        files = [f"{name}/one.py,sha256={hashed(content)},8", f"{name}/__pycache__/one.pyc,,",
                 f"{name}-1.0.dist-info/METADATA,,", f"{name}-1.0.dist-info/RECORD,,",
                 f"../../../bin/{name},,"]  # fmt: skip
        (modules / name / "one.py").write_bytes(content)
        (modules / name / "__pycache__/one.pyc").touch()
        (modules / f"{name}-1.0.dist-info/METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
        (modules / f"{name}-1.0.dist-info/RECORD").write_text("\n".join(files) + "\n")
        (before / "bin" / name).touch()
    (modules / "unknown.pth").write_text("import small.one")  # nobody's

    def copy() -> subprocess.CompletedProcess[str]:
        argv = [str(before / "bin/python"), "-I", str(ROOT / COPY), str(after)]
        return subprocess.run(argv, check=False, capture_output=True, text=True)

    assert copy().returncode == 0
    found = {str(path.relative_to(after / modules.relative_to(before)))
             for path in after.rglob("*") if path.is_file()}  # fmt: skip
    assert found == {"small/one.py", "small/__pycache__/one.pyc", "small-1.0.dist-info/METADATA",
                     "small-1.0.dist-info/RECORD"}  # fmt: skip
    (modules / "small/one.py").write_bytes(b"ONE = 2\n")
    done = copy()
    assert done.returncode == 1
    assert f"{modules}/small/one.py has changed since it was installed" in done.stderr
    (modules / "small/one.py").unlink()
    assert copy().returncode == 1


def test_a_dry_run_lists_and_changes_nothing(place: Place) -> None:
    for number in range(update.SHOWN + 2):
        place.commit(f"Change {number}")
    said = place.update(dry_run=True)
    assert said[0] == f"origin/main has {update.SHOWN + 2} new commits:"
    assert f"Change {update.SHOWN + 1} " in said[1]
    assert said[-1] == "  and 2 older ones"
    assert len(said) == update.SHOWN + 2
    assert place.subject() == "First"


def test_a_branch_that_cannot_be_fast_forwarded(place: Place) -> None:
    place.commit("Second")
    place.git("commit", "--allow-empty", "--message", "Own", where=place.path)
    with pytest.raises(InvalidInput, match="has commits that origin/main does not have"):
        place.update()
    place.git("switch", "--quiet", "--detach", where=place.path)
    with pytest.raises(InvalidInput, match="on no branch"):
        place.update()
    assert place.subject() == "Own"


def test_changed_files_are_not_overwritten(place: Place) -> None:
    place.commit("Second")
    (place.path / "src/version").write_text("changed")
    with pytest.raises(CommandFailed):
        place.update()
    assert (place.path / "src/version").read_text() == "changed"
    assert place.subject() == "First"


def test_signatures_are_shown_and_verified(place: Place) -> None:
    key = place.root / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers = place.root / "signers"
    signers.write_text(f"ann@example.com {key.with_suffix('.pub').read_text()}")
    place.git("config", "gpg.ssh.allowedSignersFile", str(signers), where=place.path)
    place.git("config", "log.showSignature", "true", where=place.path)
    place.git("config", "gpg.format", "ssh")
    place.git("config", "user.signingKey", str(key))
    place.commit("Not signed")
    with pytest.raises(CommandFailed, match=f"`git merge` failed in {place.path}") as caught:
        place.update(verify_signatures=True)
    assert "signature" in caught.value.log[-1]
    assert place.subject() == "First"
    place.commit("Signed", "--gpg-sign")
    said = place.update(verify_signatures=True)
    assert len(said) == 3
    assert said[1].endswith("  Ann: Signed (signed)")
    assert said[2].endswith("  Ann: Not signed (not signed)")
    assert place.subject() == "Signed"


def test_root_runs_no_clone_that_others_can_change(place: Place) -> None:
    for part in (place.root, place.path, place.path / ".git", place.path / "bin/install"):
        mode = part.stat().st_mode
        part.chmod(mode | 0o020)
        with pytest.raises(InvalidInput, match=f"other users can change {part}") as caught:
            place.clone()
        assert caught.value.hint.endswith(f"chmod go-w {part}")
        part.chmod(mode)
    with pytest.raises(InvalidInput, match="other users can change") as caught:
        update.open_clone(place.path, {ME + 1})
    assert "sudo gatling server update" in caught.value.hint
    link = place.root / "link"
    link.symlink_to(place.path)
    with pytest.raises(InvalidInput, match=f"other users can change {link}"):
        update.open_clone(link, {0, ME})
    place.clone()


def test_an_installation_without_a_clone(place: Place) -> None:
    with pytest.raises(InvalidInput, match="records no clone"):
        update.recorded(place.upstream)
    with pytest.raises(InvalidInput, match="is no git clone"):
        update.open_clone(place.root, {0, ME})


def test_the_user_who_called_sudo_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert update.trusted() == {0}
    monkeypatch.setenv("SUDO_UID", "1000")
    assert update.trusted() == {0, 1000}


@pytest.mark.skipif(ME != 0, reason="only root can be another user")
def test_git_runs_as_the_owner_of_the_clone(place: Place) -> None:
    place.commit("Second")
    hook = place.path / ".git/hooks/post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\nid -u > "{place.path}/who"\nid -G >> "{place.path}/who"\n')
    hook.chmod(0o755)
    for top in (place.upstream, place.path):
        for path in (top, *top.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    clone = update.open_clone(place.path, {0, NOBODY})
    update.update(clone, place.said.append, dry_run=False, verify_signatures=False)
    assert (place.path / "who").read_text() == f"{NOBODY}\n{NOBODY}\n"
    assert {p.stat().st_uid for p in place.path.rglob("*")} == {NOBODY}
    assert (place.path / "src/version").read_text() == "Second"


def test_only_root_updates(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_command_line(["server", "update"]) == Exit.INVALID
    assert "This needs root." in capfd.readouterr().err


@pytest.mark.skipif(ME != 0, reason="the command is root's")
def test_the_command_ends_as_the_installer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Path, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: ran.append(given))
    monkeypatch.setattr(sys, "prefix", str(place.root / "version"))
    (place.root / "version").mkdir()
    (place.root / "version/clone").write_text(f"{place.path}\n")
    place.commit("Second")
    assert run_command_line(["server", "update", "--dry-run"]) == Exit.OK
    assert (ran, place.subject()) == ([], "First")
    assert run_command_line(["server", "update"]) == Exit.OK
    ((program, argv, env),) = ran
    assert (program, argv) == (place.path / "bin/install", [f"{place.path}/bin/install"])
    assert env["HOME"] == "/root"
    assert place.subject() == "Second"
