"""Naming commits, and what the build directory holds after an export. With real git."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import BuildFailed, NotFound
from gatling.project import source
from tests.conftest import loaded, until

if TYPE_CHECKING:
    from tests.project.conftest import Repository

MIX = "defmodule Shop.MixProject do\nend\n"


def tree(directory: Path) -> set[str]:
    """All files and links below a directory."""
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def stray(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_revisions_name_a_commit(repository: Repository) -> None:
    first = repository.commit({"mix.exs": MIX})
    repository.git("tag", "--annotate", "--message", "a tag", "v1.0")
    second = repository.commit({"a": "1"})
    bare = repository.paths.repository
    for revision, commit in (
        ("main", second), ("refs/heads/main", second), ("HEAD", second), (second, second),
        (first[:8], first), ("v1.0", first), ("main~1", first),
    ):  # fmt: skip
        assert source.resolve(bare, revision) == commit


def test_a_branch_comes_before_a_tag_of_the_same_name(repository: Repository) -> None:
    first = repository.commit({"mix.exs": MIX})
    repository.git("tag", "main")
    second = repository.commit({"a": "1"})
    bare = repository.paths.repository
    assert source.resolve(bare, "main") == second
    assert source.resolve(bare, "refs/tags/main") == source.resolve(bare, "main~1") == first


@pytest.mark.parametrize(
    "revision",
    ["topic", "", " ", "0" * 40, "main:mix.exs", "main^{tree}x", "--help", "-v", "--all", "main\n",
     "main..main", "^main", "@{-1}", "../../x"],
)  # fmt: skip
def test_what_names_no_commit(repository: Repository, revision: str) -> None:
    repository.commit({"mix.exs": MIX})
    with pytest.raises(NotFound) as caught:
        source.resolve(repository.paths.repository, revision)
    assert repr(revision) in caught.value.what


def test_the_head_of_the_first_branch_there_is(repository: Repository) -> None:
    bare = repository.paths.repository
    with pytest.raises(NotFound, match="to main or master"):
        source.branch_head(bare, ("main", "master"))
    first = repository.commit({"mix.exs": MIX})
    assert source.branch_head(bare, ("main", "master")) == first
    repository.git("branch", "--move", "main", "master")
    assert source.branch_head(bare, ("main", "master")) == first
    repository.git("tag", "main")  # a tag is no branch
    second = repository.commit({"a": "1"})
    assert source.branch_head(bare, ("main", "master")) == second
    repository.git("branch", "main", first)
    assert source.branch_head(bare, ("main", "master")) == first


def test_the_files_of_the_commit_and_no_others(repository: Repository) -> None:
    binary = bytes(range(256)) * 40
    commit = repository.commit(
        {"mix.exs": MIX, "lib/a.ex": "a", "bin/run": "#!/bin/sh\n", "priv/x.bin": binary,
         "link": Path("lib/a.ex"), "dangling": Path("../nowhere"), "with space/ü\n.txt": "ü"}
    )  # fmt: skip
    repository.git("update-index", "--chmod=+x", "bin/run")
    (repository.work / "bin/run").chmod(0o755)
    commit = repository.commit({})
    directory = repository.export(commit)
    assert tree(directory) == {
        "mix.exs", "lib/a.ex", "bin/run", "priv/x.bin", "link", "dangling", "with space/ü\n.txt"
    }  # fmt: skip
    assert (directory / "priv/x.bin").read_bytes() == binary
    assert (directory / "link").readlink() == Path("lib/a.ex")
    assert (directory / "dangling").readlink() == Path("../nowhere")
    modes = {
        name: bool((directory / name).stat().st_mode & stat.S_IXUSR)
        for name in ("bin/run", "lib/a.ex")
    }
    assert modes == {"bin/run": True, "lib/a.ex": False}


def test_from_one_commit_to_the_next(repository: Repository) -> None:
    first = repository.commit(
        {"mix.exs": MIX, "lib/a.ex": "a", "lib/old/b.ex": "b", "thing": "file", "same": "same"}
    )
    directory = repository.export(first)
    untouched = (directory / "same").stat()
    second = repository.commit(
        {"lib/a.ex": "changed", "lib/old/b.ex": None, "thing": None, "thing/inside": "now a dir"}
    )
    repository.export(second)
    assert tree(directory) == {"mix.exs", "lib/a.ex", "thing/inside", "same"}
    assert not (directory / "lib/old").exists()
    assert (directory / "lib/a.ex").read_text() == "changed"
    # what did not change is not written again: mix would compile it anew
    after = (directory / "same").stat()
    assert (after.st_mtime_ns, after.st_ino) == (untouched.st_mtime_ns, untouched.st_ino)
    repository.export(first)  # and back
    assert tree(directory) == {"mix.exs", "lib/a.ex", "lib/old/b.ex", "thing", "same"}


def test_what_a_build_has_altered_is_put_right(repository: Repository) -> None:
    commit = repository.commit({"mix.exs": MIX, "mix.lock": "locked", "lib/a.ex": "a"})
    directory = repository.export(commit)
    (directory / "mix.lock").write_text("altered by mix")
    (directory / "lib/a.ex").unlink()
    (directory / "lib").rmdir()
    stray(directory / "lib", "in its place")
    repository.export(commit)
    assert (directory / "mix.lock").read_text() == "locked"
    assert (directory / "lib/a.ex").read_text() == "a"


def test_caches_of_mix_and_npm_stay_and_everything_else_untracked_is_removed(
    repository: Repository,
) -> None:
    commit = repository.commit({"mix.exs": MIX, ".gitignore": "/cache\n*.log\n"})
    directory = repository.export(commit)
    kept = ["deps/plug/mix.exs", "_build/prod/x.beam", "node_modules/a/i.js",
            "assets/node_modules/b/i.js", "_build/gatling/compiled"]  # fmt: skip
    ignored = ["cache/x", "build.log"]
    for name in [*kept, *ignored, "litter.txt", "lib/litter.ex", "lib/deps/x"]:
        stray(directory / name)
    stray(directory / "_build/gatling/compiled", "")
    subprocess.run(["git", "init", "--quiet", directory / "nested"], check=True)
    assert (directory / "nested/.git/HEAD").exists()
    repository.export(commit)
    assert tree(directory) == {"mix.exs", ".gitignore", *kept}


ODD = "priv/a [b]*?!#é\\ .so"


def generated(repository: Repository, listed: str | None) -> tuple[Path, str]:
    """A build directory in which a compilation has written files, and its commit."""
    commit = repository.commit({"mix.exs": MIX, "lib/a.ex": "1", ".gitignore": "/priv\n"})
    directory = repository.export(commit)
    for name in ("priv/nif.so", ODD, "priv/digest.css"):
        stray(directory / name)
    (directory / "_build").mkdir()
    if listed is not None:
        stray(directory / "_build/gatling/compiled", listed)
    return directory, commit


def test_files_that_the_compilation_wrote_stay_while_only_code_changes(
    repository: Repository,
) -> None:
    directory, commit = generated(repository, f"priv/nif.so\0{ODD}\0../../mix.exs\0/etc\0\n\0")
    for following in (commit, repository.commit({"lib/a.ex": "2", "lib/b.ex": "new"})):
        repository.export(following)
        assert tree(directory / "priv") == {"nif.so", ODD.removeprefix("priv/")}
    assert not (directory / "_build/gatling/force").exists()


@pytest.mark.parametrize("path", ["mix.exs", "mix.lock", "config/prod.exs", "apps/x/mix.exs",
                                  "lib/mix/tasks/compile.gen.ex", "c_src/Makefile"])  # fmt: skip
def test_they_go_with_what_may_decide_about_them(repository: Repository, path: str) -> None:
    directory, _ = generated(repository, "priv/nif.so\0")
    repository.export(repository.commit({path: f"{MIX}\n# changed"}))
    assert not (directory / "priv").exists()
    assert (directory / "_build/gatling/force").exists()


def test_they_go_with_a_source_that_is_gone(repository: Repository) -> None:
    directory, _ = generated(repository, "priv/nif.so\0")
    repository.export(repository.commit({"lib/a.ex": None}))
    assert not (directory / "priv").exists()
    assert (directory / "_build/gatling/force").exists()


def test_without_a_list_everything_is_compiled_again(repository: Repository) -> None:
    directory, commit = generated(repository, None)
    repository.export(commit)
    assert not (directory / "priv").exists()
    assert (directory / "_build/gatling/force").exists()


def test_a_list_of_no_files_forces_nothing(repository: Repository) -> None:
    directory, _ = generated(repository, "")
    repository.export(repository.commit({"mix.exs": f"{MIX}\n# changed"}))
    assert not (directory / "priv").exists()
    assert not (directory / "_build/gatling/force").exists()


def test_lfs_pointers_are_reported(repository: Repository) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    commit = repository.commit({
        "mix.exs": MIX, ".gitattributes": "*.bin filter=lfs\n", "a.bin": pointer, "b.bin": "real",
    })  # fmt: skip
    repository.export(commit)
    lines = repository.printed
    assert lines[0].startswith("warning: 1 file of this commit are Git LFS pointers")
    assert lines[0].endswith(": a.bin")


@pytest.mark.parametrize("url", ["../lib.git", "./lib.git"])
def test_a_relative_url_of_a_submodule_is_refused(repository: Repository, url: str) -> None:
    modules = f'[submodule "lib"]\n\tpath = vendor/lib\n\turl = {url}\n'
    commit = repository.commit({"mix.exs": MIX, ".gitmodules": modules})
    with pytest.raises(BuildFailed, match=rf"The submodule lib has a relative URL, {url},"):
        repository.export(commit)


def test_a_commit_without_mix_exs(repository: Repository) -> None:
    bad = repository.commit({"README.md": "x", "apps/mix.exs/x": "not in the root"})
    with pytest.raises(BuildFailed, match=r"no mix\.exs"):
        repository.export(bad)
    good = repository.commit({"mix.exs": MIX})
    assert "mix.exs" in tree(repository.export(good))


def test_a_commit_that_is_not_there(repository: Repository) -> None:
    commit = repository.commit({"mix.exs": MIX})
    repository.export(commit)
    with pytest.raises(BuildFailed, match="could not be exported") as caught:
        repository.export("1" * 40)
    assert caught.value.log
    assert tree(repository.export(commit)) == {"mix.exs"}


def test_locks_of_a_build_that_was_killed(repository: Repository) -> None:
    directory = repository.export(repository.commit({"mix.exs": MIX, "a": "1"}))
    git = repository.paths.build / "git"
    for name in ("index.lock", "HEAD.lock", "refs/heads/main.lock", "config.lock"):
        stray(git / name)
    repository.export(repository.commit({"a": "2"}))
    assert (directory / "a").read_text() == "2"
    assert not list(git.rglob("*.lock"))


def test_a_git_directory_that_was_never_finished(repository: Repository) -> None:
    commit = repository.commit({"mix.exs": MIX})
    directory = repository.export(commit)
    stray(directory / "_build/prod/x.beam")
    (repository.paths.build / "git/HEAD").unlink()
    repository.export(commit)
    assert tree(directory) == {"mix.exs", "_build/prod/x.beam", "_build/gatling/force"}
    shutil.rmtree(repository.paths.build / "git")
    repository.export(commit)
    assert tree(directory) == {"mix.exs", "_build/prod/x.beam", "_build/gatling/force"}


def test_no_hook_is_run(repository: Repository) -> None:
    commit = repository.commit({"mix.exs": MIX})
    repository.export(commit)
    trace = repository.paths.build / "hook-was-here"
    hook = stray(repository.paths.build / "git/hooks/post-checkout", f"#!/bin/sh\n>'{trace}'\n")
    hook.chmod(0o755)
    repository.export(repository.commit({"a": "1"}))
    assert not trace.exists()


def test_what_git_tells_its_hook_does_not_mislead(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = repository.commit({"mix.exs": MIX})
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert source.resolve(repository.paths.repository, "main") == commit
    assert tree(repository.export(commit)) == {"mix.exs"}
    assert not (tmp_path / "elsewhere").exists()


def test_a_commit_in_the_quarantine_of_a_push(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.commit({"mix.exs": MIX})
    objects = repository.paths.repository / "objects"
    quarantine = tmp_path / 'with: a "colon"'
    quarantine.mkdir()
    into = os.environ | {
        "GIT_OBJECT_DIRECTORY": str(quarantine),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
    }
    repository.write({"new": "pushed"})
    repository.git("add", "--all", env=into)
    written = repository.git("write-tree", env=into)
    commit = repository.git("commit-tree", written, "-p", "main", "-m", "pushed", env=into)
    with pytest.raises(BuildFailed):
        repository.export(commit)
    monkeypatch.setenv("GIT_QUARANTINE_PATH", str(quarantine))
    assert tree(repository.export(commit)) == {"mix.exs", "new"}


@pytest.mark.parametrize("ahead", [0, 3600])
def test_mix_sees_what_the_export_writes(repository: Repository, ahead: int) -> None:
    # Mix compares whole seconds: a manifest of this second, or of the future, would hide changes
    directory = repository.export(repository.commit({"mix.exs": MIX, "lib/a.ex": "a"}))
    mix = directory / "_build/prod/lib/shop/.mix"
    manifest, older = stray(mix / "compile.elixir"), stray(mix / "compile.app_cache")
    other = stray(directory / "_build/prod/lib/shop/ebin/shop.app")
    os.utime(older, (1_000_000, 1_000_000))
    commit = repository.commit({"lib/a.ex": "b"})
    # begin with a second, so that manifest and source are written in the same one
    until(lambda: time.time() % 1 < 0.5, "the beginning of a second")
    os.utime(manifest, (time.time() + ahead,) * 2)
    os.utime(other, (time.time() + 3600,) * 2)
    before = other.stat().st_mtime_ns
    repository.export(commit)
    assert int(manifest.stat().st_mtime) < int((directory / "lib/a.ex").stat().st_mtime)
    assert older.stat().st_mtime == 1_000_000
    assert other.stat().st_mtime_ns == before


def test_the_export_of_a_server_loads_no_settings() -> None:
    """It is a program of its own, which each push waits for."""
    slow = "msgspec", "gatling.project.settings", "gatling.project.manifest", "tomllib", "sqlite3"
    assert loaded("import gatling.platform.server.export", *slow) == []
