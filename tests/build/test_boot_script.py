"""The boot scripts that a build keeps: those of mix, as long as nothing of them has changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from gatling import build

PRIV = Path(build.__file__).parent / "priv"
MIX = """defmodule Shop.MixProject do
  use Mix.Project
  def project, do: [app: :shop, version: "1.0.0", elixir: "~> 1.14", deps: []]
  def application, do: [extra_applications: [:logger]]
end
"""


def test_boot_scripts_are_made_again_only_when_they_change(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    project = tmp_path / "shop"
    (project / "lib").mkdir(parents=True)
    (project / "mix.exs").write_text(MIX)
    (project / "lib/shop.ex").write_text("defmodule Shop do\n  def a, do: 1\nend\n")
    script = Path(__file__).with_name("boot_script.exs")
    argv = ["elixir", str(script), str(PRIV), str(tmp_path / "made")]
    env = {**os.environ, "MIX_ENV": "prod"}
    done = subprocess.run(argv, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "first: made, as mix",
        "path: made, as mix",  # the first compilation has put its directories on the code path
        "again: kept, as mix",
        "code: kept, as mix",
        "module: made, as mix",
        "again: kept, as mix",
        "removed: made, as mix",
        "damaged: made, as mix",
        "empty: made, as mix",
        "again: kept, as mix",
    ]
