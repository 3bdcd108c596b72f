"""What root's helper notes of each request."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.platform.server.helper import journal, service

if TYPE_CHECKING:
    import pytest

    from tests.platform.server.helper.conftest import Helper


def test_a_line_has_verb_app_who_asked_and_the_outcome() -> None:
    request = {"verb": "start", "app": "shop", "slot": 1, "actor": "ann", "env": {"X": "secret"}}
    said = journal.line(4711, 998, request, {}, 0.0123)
    assert said == "start app=shop slot=1 by=ann (pid 4711, uid 998): done in 12 ms"
    said = journal.line(1, 2, request, {"refused": "app is not\na name"}, 0)
    assert r": refused (app is not\na name) in" in said
    assert "ended with status -9" in journal.line(1, 2, request, {"status": -9}, 0)


def test_a_hostile_request_forges_no_line() -> None:
    request = {"verb": "x\nstart app=shop", "app": "\x1b[2J", "actor": "a b", "slot": [1]}
    said = journal.line(1, 2, request, {"failed": "x" * 100_000}, 1)
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 400


def test_each_request_is_noted(helper: Helper, capfd: pytest.CaptureFixture[str]) -> None:
    helper.ask({"verb": "app", "app": "shop", "limits": {}, "stop": 30, "actor": "ann"})
    helper.ask({"verb": "frobnicate", "app": "shop"})
    helper.ask({"verb": "stop", "app": "../shop"})
    done, unknown, refused = capfd.readouterr().err.splitlines()
    assert done.startswith("app app=shop by=ann (pid ")
    assert ": done in " in done
    assert ": refused (no such verb) in " in unknown
    assert ": refused (" in refused


def test_a_defect_is_an_answer_and_its_traceback_stays_here(
    helper: Helper, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise TypeError("x")

    monkeypatch.setitem(service.PLAIN, "stop", fails)
    answer = helper.ask({"verb": "stop", "app": "shop"})
    assert "TypeError" not in str(answer)
    assert "failed" in answer
    assert "Traceback" in capfd.readouterr().err


def test_an_unknown_verb_has_a_code(helper: Helper) -> None:
    assert helper.ask({"verb": "check"})["code"] == "unknown-verb"


def test_no_package_beside_gatling_takes_the_place_of_a_standard_module(tmp_path: Path) -> None:
    """As the unit starts it, `-I -S`: with the packages' directory last on the path."""
    source = Path(str(service.__file__)).parents[3]
    shutil.copytree(source, tmp_path / "gatling", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("hashlib", "dataclasses"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the standard one')\n")
    program = str(tmp_path / "gatling/platform/server/helper/service.py")
    script = f"import runpy; runpy.run_path({program!r})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
