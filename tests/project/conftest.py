"""A repository as git leaves it after a push, and the build directory beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.platform.embedded.home import EmbeddedPaths
from gatling.project import source

if TYPE_CHECKING:
    from collections.abc import Mapping

Files = dict[str, str | bytes | Path | None]
"""Path → text, bytes, the target of a symlink, or None for a file to remove."""


class Repository:
    """The bare repository of an app, committed to through a work tree of its own."""

    def __init__(self, root: Path) -> None:
        self.paths = EmbeddedPaths(root / "home", "shop")
        self.work = root / "work"
        self.work.mkdir()
        self.printed: list[str] = []
        self.paths.repository.mkdir(parents=True)
        subprocess.run(
            ["git", "init", "--quiet", "--bare", "--initial-branch=main", self.paths.repository],
            check=True,
        )

    def git(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        identity = [
            "-c", "core.bare=false", "-c", "user.name=t", "-c", "user.email=t@example.com",
        ]  # fmt: skip
        where = [f"--git-dir={self.paths.repository}", f"--work-tree={self.work}"]
        done = subprocess.run(
            ["git", *identity, *where, *arguments], cwd=self.work, env=env, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def write(self, files: Files) -> None:
        for name, content in files.items():
            path = self.work / name
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                path.write_text(content)

    def commit(self, files: Files) -> str:
        """A new commit on the branch with these changes; its id."""
        self.write(files)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def export(self, commit: str) -> Path:
        source.export(self.paths, commit, self.printed.append)
        return self.paths.source


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_QUARANTINE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return Repository(tmp_path)
