"""From a pushed commit to a directory that can be built.

The build directory is a work tree of its own, with a git directory beside it that borrows the
objects of the pushed repository. git's own checkout brings it from one commit to the next: only
files that differ are written, so that mix recompiles only what changed. Dependencies and mix's
caches (deps, _build, node_modules) stay; every other file that is not tracked is removed
(`generated` has the exception). Submodules are git's own business as well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import names, process
from gatling.errors import BuildFailed, CommandFailed, InvalidManifest, NotFound
from gatling.project import deploy_key, generated, not_pushed
from gatling.project.git_environment import own_environment
from gatling.project.own_files import own_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.paths import AppPaths

FETCH_SECONDS = 600.0
MAX_HEAD = 200

KEPT = ("/deps", "/_build", "node_modules")
"""Never cleaned away between builds, whether or not the project ignores them."""


def git_directory(paths: AppPaths) -> Path:
    """The git directory of an app's build directory; its work tree is `paths.source`."""
    return paths.build / "git"


def resolve(repository: Path, revision: str) -> str:
    """The full commit id of a branch, tag or (short) commit; raises NotFound.

    A branch comes before a tag of the same name, which git's own order (gitrevisions(7)) prefers:
    what is deployed is a branch.
    """
    exact = names.is_commit(revision) or revision.startswith("refs/")
    for prefix in ("",) if exact else ("refs/heads/", "refs/tags/", ""):
        found = _commit(repository, f"{prefix}{revision}")
        if found is not None:
            break
    else:
        raise NotFound(f"There is no commit {revision!r} in the pushed repository.")
    if not names.is_commit(found):
        raise NotFound(f"{revision!r} is not one commit.")
    return found


def _commit(repository: Path, revision: str) -> str | None:
    try:
        return process.output(
            ["git", "--git-dir", str(repository), "rev-parse", "--verify", "--quiet",
             "--end-of-options", f"{revision}^{{commit}}"],
            env=own_environment(),
        ).strip()  # fmt: skip
    except CommandFailed:
        return None


def file_at(repository: Path, commit: str, path: str, limit: int) -> bytes | None:
    """A file of a commit, which may still be in quarantine.

    None when the commit has no such file, or one of more than `limit` bytes.
    """
    git, what = ["git", "--git-dir", str(repository), "cat-file"], f"{commit}:{path}"
    environment = environment_of_push(repository)
    try:
        if int(process.output([*git, "-s", what], env=environment)) > limit:
            return None
        text = process.output([*git, "blob", what], env=environment)
    except CommandFailed:
        return None
    return text.encode("utf-8", "surrogateescape")


def branch_head(repository: Path, branches: tuple[str, ...]) -> str:
    """The commit at the head of the first of these branches that exists; raises NotFound."""
    for branch in branches:
        try:
            return resolve(repository, f"refs/heads/{branch}")
        except NotFound:
            continue
    raise NotFound(f"Nothing has been pushed to {' or '.join(branches)} yet.")


def export(
    paths: AppPaths, commit: str, on_line: Callable[[str], None], directory: str = ""
) -> None:
    """Bring the build directory to `commit`, submodules included.

    The project is in `directory` of it.

    The commit may still be in the quarantine of a push under way (git-receive-pack(1)): its
    objects are found through the environment that git gave the hook. Raises BuildFailed, also for a
    commit that is no Elixir project.
    """
    git_dir, work_tree = git_directory(paths), paths.source
    environment = own_environment() | deploy_key.environment(paths) | _borrowing(paths.repository)
    work_tree.mkdir(parents=True, exist_ok=True)
    if not (git_dir / "HEAD").exists():
        shutil.rmtree(git_dir, ignore_errors=True)
        process.output(["git", "init", "--quiet", "--bare", str(git_dir)], env=own_environment())
    for lock in git_dir.glob("**/*.lock"):
        lock.unlink()  # of a build that was killed: the deployment lock is ours
    project = work_tree / directory
    _date_back_manifests(project)
    git = [
        "git", f"--git-dir={git_dir}", f"--work-tree={work_tree}",
        "-c", "core.bare=false", "-c", "core.hooksPath=/dev/null",
        "-c", "advice.detachedHead=false", "-c", "protocol.ext.allow=never",
        "-c", "protocol.file.allow=always",
    ]  # fmt: skip
    before = _head(git, environment)
    try:
        process.run(
            [*git, "checkout", "--quiet", "--force", "--detach", commit],
            timeout=FETCH_SECONDS,
            env=environment,
            cwd=work_tree,
        )
        # The modules of the commit before, too: what it no longer has must go.
        if (work_tree / ".gitmodules").exists() or (git_dir / "modules").exists():
            not_pushed.check_submodules(git, commit, environment)
            _submodules(git, work_tree, environment, on_line)
        keep = generated.kept(git, project, work_tree, before, commit, environment)
        below = f"/{directory}" if directory else ""
        kept = dict.fromkeys((*KEPT, *(below + path for path in KEPT if path[0] == "/")))
        patterns = [*kept, *map(generated.exclusion, keep)]
        exclude = [flag for pattern in patterns for flag in ("--exclude", pattern)]
        process.run(
            [*git, "clean", "--quiet", "-ffdx", *exclude],
            timeout=FETCH_SECONDS,
            env=environment,
            cwd=work_tree,
        )
    except CommandFailed as error:
        raise BuildFailed(
            f"The source could not be exported: {error.what}", log=error.log
        ) from None
    for line in not_pushed.lfs_pointers(git, work_tree, environment):
        on_line(line)
    if not project.resolve().is_relative_to(work_tree.resolve()):
        raise BuildFailed(f"{directory} points outside the pushed commit.")
    if not (project / "mix.exs").is_file():
        raise BuildFailed(
            f"There is no mix.exs in {directory or 'the root'} of the pushed commit.",
            hint="`gatling settings set APP build.directory=DIR` sets its directory.",
        )


def _date_back_manifests(work_tree: Path) -> None:
    """Let mix see what the checkout is about to write.

    Mix compares whole seconds: a file that is written in the second of the last compilation, and
    keeps its length, is taken for unchanged. So is any after the clock has been set back.
    """
    now = int(time.time())
    for manifest in work_tree.glob("_build/*/lib/*/.mix/compile.*"):
        if manifest.stat().st_mtime >= now:
            os.utime(manifest, (now - 1, now - 1))


def _submodules(
    git: list[str], work_tree: Path, environment: dict[str, str], on_line: Callable[[str], None]
) -> None:
    # git-submodule(1) looks for the git directory from the work tree
    link = work_tree / ".git"
    link.write_text(f"gitdir: {git[1].partition('=')[2]}\n")
    try:
        for command in (
            ["submodule", "sync", "--quiet", "--recursive"],
            ["submodule", "update", "--init", "--recursive", "--force", "--checkout"],
            ["submodule", "foreach", "--quiet", "--recursive", "git clean --quiet -ffdx"],
        ):
            # submodules have objects of their own; the pushed ones are not theirs
            process.run(
                [*git, *command],
                timeout=FETCH_SECONDS,
                env=environment,
                cwd=work_tree,
                on_line=on_line,
            )
    except CommandFailed as error:
        raise BuildFailed(
            "A git submodule could not be fetched.",
            hint="Its URL in .gitmodules must be absolute and readable from this host; for a"
            " private one: `gatling deploy-key create APP`.",
            log=error.log,
        ) from None
    finally:
        link.unlink(missing_ok=True)


def environment_of_push(repository: Path) -> dict[str, str]:
    """The environment in which git sees a repository and the objects of a push under way."""
    return own_environment() | _borrowing(repository)


def _head(git: list[str], environment: dict[str, str]) -> str:
    """The commit that the build directory is at; empty before the first build."""
    head = Path(git[1].partition("=")[2]) / "HEAD"
    with contextlib.suppress(OSError, InvalidManifest):
        text = (own_file(head, MAX_HEAD) or b"").decode("ascii", "replace").removesuffix("\n")
        if names.is_commit(text):  # always so, after a checkout that is detached
            return text
    try:
        found = process.output([*git, "rev-parse", "--verify", "--quiet", "HEAD"], env=environment)
    except CommandFailed:
        return ""
    return found.strip()


def _borrowing(repository: Path) -> dict[str, str]:
    """Lets git find the objects of the pushed repository, and of a push under way."""
    directories = ":".join(_quoted(p) for p in _object_directories(repository))
    return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": directories}


def _object_directories(repository: Path) -> list[Path]:
    directories = [repository / "objects"]
    quarantine = os.environ.get("GIT_QUARANTINE_PATH")
    if quarantine:
        directories.insert(0, Path(quarantine))
    return directories


def _quoted(path: Path) -> str:
    """A path for GIT_ALTERNATE_OBJECT_DIRECTORIES, git(1): C-style quotes where it has a colon."""
    text = str(path)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if ":" in text else text
