"""The compiler, xref and dialyzer on the Erlang that Gatling runs in nodes."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from gatling.beam import toolbox

# the first run prepares dialyzer
pytestmark = pytest.mark.timeout(1800)
CHECK = Path(__file__).with_name("check.escript")
# dialyzer reads once, for each version of OTP, the modules that the sources may use: all of OTP's
# would take a minute or two
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / "dialyzer"
FAULTY = {
    "run() -> ok.": "missing specification for function run/0",
    "-spec run() -> ok.\nrun() -> X = 1, ok.": "variable 'X' is unused",
    f"%% {'-' * 100}\n-spec run() -> ok.\nrun() -> ok.": "longer than 100 characters",
    "-spec run() -> term().\nrun() -> lists:nothing([]).": "lists,nothing,1}, which does not exist",
    "-spec run() -> ok.\nrun() -> file:delete(1).": "breaks the contract",
    "-spec run() -> ok.\nrun() -> file:delete(a), ok.": "but this value is unmatched",
}


@functools.cache
def named() -> list[str]:
    """What may be the name of a module that the sources call, or whose types they use."""
    texts = [source.read_text() for source in toolbox.SOURCES.glob("*.erl")]
    return sorted({name for text in texts for name in re.findall(r"\b([a-z]\w*):[a-z]", text)})


def check(sources: Path) -> list[str]:
    """The lines that the check prints, each of which is a fault."""
    argv = ["escript", str(CHECK), str(sources), str(CACHE), *named()]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # of two tests, one prepares dialyzer
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == bool(done.stdout), done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_sources_have_no_fault() -> None:
    assert check(toolbox.SOURCES) == []


@pytest.mark.parametrize(("code", "fault"), FAULTY.items())
def test_a_fault_is_found(tmp_path: Path, code: str, fault: str) -> None:
    (tmp_path / "faulty.erl").write_text(f"-module(faulty).\n-export([run/0]).\n{code}\n")
    assert fault in "\n".join(check(tmp_path))
