"""Builds without a network: what earlier builds have downloaded is not downloaded again.

The network is cut by a namespace of its own around each build's `elixir`. A package with the calls
of the real one downloads its program from a server on loopback, which is not reached from there.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.mirror import Mirror

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project, World

pytestmark = pytest.mark.usefixtures("on_demand")

CUT = ("unshare", "--map-root-user", "--net", "--")
PACKAGE = """
defmodule Esbuild do
  def configured_version, do: String.trim(File.read!("esbuild.version"))
  def bin_path, do: Path.join(Path.dirname(Mix.Project.build_path()), "esbuild-linux-x64")

  def bin_version do
    with true <- File.exists?(bin_path()),
         {text, 0} <- System.cmd(bin_path(), ["--version"]) do
      {:ok, String.trim(text)}
    else
      _ -> :error
    end
  end

  def install_and_run do
    if not File.exists?(bin_path()), do: install()
    {text, 0} = System.cmd(bin_path(), ["--version"])
    IO.puts("bundled by " <> text)
    File.mkdir_p!("priv/static")
    File.write!("priv/static/app.js", text)
  end

  defp install do
    :inets.start()
    url = "MIRROR/esbuild-" <> configured_version()

    case :httpc.request(:get, {String.to_charlist(url), []}, [timeout: 5000], []) do
      {:ok, {{_, 200, _}, _, body}} ->
        File.write!(bin_path(), body)
        File.chmod!(bin_path(), 0o755)

      other ->
        raise "couldn't fetch #{url}: #{inspect(other)}"
    end
  end
end
"""
MIX = """
defmodule Esbuild.MixProject do
  use Mix.Project
  def project, do: [app: :esbuild, version: "0.10.0"]
end
"""


def with_esbuild(project: Project, url: str) -> None:
    """Let a project build its assets as a generated one does."""
    project.write("vendor/esbuild/mix.exs", MIX)
    project.write("vendor/esbuild/lib/esbuild.ex", PACKAGE.replace("MIRROR", url))
    project.write("esbuild.version", "1.0.0\n")
    deps = '[{:esbuild, path: "vendor/esbuild", runtime: false}]'
    alias = 'aliases: ["assets.deploy": fn _ -> Esbuild.install_and_run() end],'
    project.replace("mix.exs", "deps: []", f"{alias}\n      deps: {deps}")
    project.commit("assets")


def cut(world: World) -> Path:
    """Put an `elixir` without a network first in the PATH."""
    real = shutil.which("elixir", path=world.env["PATH"])
    wrapper = world.root / "cut/elixir"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(CUT)} {real} "$@"\n')
    wrapper.chmod(0o755)
    world.env["PATH"] = f"{wrapper.parent}:{world.env['PATH']}"
    return wrapper


@pytest.mark.skipif(
    subprocess.run([*CUT, "true"], capture_output=True, check=False).returncode != 0,
    reason="no network namespaces here",
)
def test_what_was_downloaded_is_kept_by_version(world: World) -> None:
    shop = world.load()
    with Mirror() as server:
        for version in ("1.0.0", "2.0.0"):
            server.files[f"esbuild-{version}"] = f"#!/bin/sh\necho {version}\n".encode()
        with_esbuild(shop, server.url)
        assert "bundled by 1.0.0" in shop.push()
        assert server.asked == ["esbuild-1.0.0"]

        wrapper = cut(world)
        shop.title("Offline")
        assert "bundled by 1.0.0" in shop.push()
        assert "Offline" in world.get().text
        world.run("build", "clean", "shop")
        shop.title("Clean")
        assert "bundled by 1.0.0" in shop.push()

        # another app of the same user
        blog = world.load("blog")
        with_esbuild(blog, server.url)
        assert "bundled by 1.0.0" in blog.push()
        assert server.asked == ["esbuild-1.0.0"]

        # another version: the program that is there is not taken for it
        shop.write("esbuild.version", "2.0.0\n")
        shop.commit("version 2")
        output = shop.push(ok=False)
        assert f"couldn't fetch {server.url}/esbuild-2.0.0" in output
        assert "`gatling config set shop HTTPS_PROXY=URL`" in output
        wrapper.unlink()
        assert "bundled by 2.0.0" in shop.push()
        assert server.asked == ["esbuild-1.0.0", "esbuild-2.0.0"]
