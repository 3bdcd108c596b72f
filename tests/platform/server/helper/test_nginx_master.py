"""The process of nginx while another one, of before an upgrade, ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gatling.platform.server.helper import nginx
from tests.conftest import until


@pytest.mark.parametrize("name", ["nginx", "sleep"])
def test_an_nginx_that_has_replaced_the_main_process(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy(shutil.which("sleep") or "", program)
    file = tmp_path / "pid"
    with subprocess.Popen([program, "100"]) as later:
        try:
            file.write_text(f"{later.pid}\n")
            # the kernel sets it after what Popen waits for
            comm = Path(f"/proc/{later.pid}/comm")
            until(lambda: comm.read_text() == f"{name}\n", "its name")
            found = nginx.later_master(lambda _: f"{os.getpid()}\n", file)
            assert found == (later.pid if name == "nginx" else 0)
            assert nginx.later_master(lambda _: f"{later.pid}\n", file) == 0
        finally:
            later.kill()
    assert nginx.later_master(lambda _: "0\n", file) == 0
    file.write_text("")
    assert nginx.later_master(lambda _: "0\n", file) == 0
