"""A key has a limited number of sessions."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatling.errors import NotAllowed
from gatling.platform.server.home import ServerHome
from gatling.ssh import sessions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerHome:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(sessions, "LIMITS", {"reader": 2, "deployer": 3, "admin": 4})
    return ServerHome(tmp_path)


def test_a_key_has_as_many_sessions_as_its_role_allows(home: ServerHome) -> None:
    with sessions.held(home, "rita", "reader"):
        with sessions.held(home, "rita", "reader"):
            with pytest.raises(NotAllowed, match="rita has 2 sessions open"):
                sessions.held(home, "rita", "reader").__enter__()
            with sessions.held(home, "rob", "reader"):  # another key has its own
                pass
        with sessions.held(home, "rita", "reader"):
            pass


def test_a_session_ends_with_what_the_process_has_become(home: ServerHome) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from gatling.platform.server.home import ServerHome\n"
        "from gatling.ssh import sessions\n"
        "with sessions.held(ServerHome(Path(sys.argv[1])), 'rita', 'reader'):\n"
        "    os.execvp('sh', ['sh', '-c', 'echo ready; read line'])"
    )
    with (
        sessions.held(home, "rita", "reader"),
        subprocess.Popen(
            [sys.executable, "-c", script, str(home.root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as git,
    ):  # fmt: skip
        assert git.stdout
        assert git.stdout.readline() == b"ready\n"
        with pytest.raises(NotAllowed):
            sessions.held(home, "rita", "reader").__enter__()
        git.communicate(b"go on\n")
        with sessions.held(home, "rita", "reader"):
            pass
