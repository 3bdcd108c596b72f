"""Parts of a commit that a push does not bring along: submodules' origins, LFS objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import BuildFailed, CommandFailed, InvalidManifest
from gatling.project.own_files import own_file
from gatling.text import counted

if TYPE_CHECKING:
    from pathlib import Path


def check_submodules(git: list[str], commit: str, environment: dict[str, str]) -> None:
    """Refuse relative URLs: git would resolve them against the build directory."""
    try:
        text = process.output(
            [*git, "config", "--blob", f"{commit}:.gitmodules", "-z",
             "--get-regexp", r"^submodule\..*\.url$"],
            env=environment,
        )  # fmt: skip
    except CommandFailed:  # no such file, or none of its sections has a URL
        return
    for entry in text.split("\0"):
        key, _, url = entry.partition("\n")
        if url.startswith(("./", "../")):
            name = key.removeprefix("submodule.").removesuffix(".url")
            raise BuildFailed(
                f"The submodule {name} has a relative URL, {url}, which has no meaning here.",
                hint="Write the absolute URL of its repository into .gitmodules. For a private one:"
                " `gatling deploy-key create APP`.",
            )


def lfs_pointers(git: list[str], work_tree: Path, environment: dict[str, str]) -> list[str]:
    """A warning about files that are Git LFS pointers: a push does not bring their contents."""
    try:
        text = process.output(
            [*git, "ls-files", "-z", "--", ":(attr:filter=lfs)"], env=environment, cwd=work_tree
        )
    except CommandFailed:
        return []
    found = [path for path in text.split("\0") if path and _is_pointer(work_tree / path)]
    if not found:
        return []
    shown = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
    files = counted(len(found), "file")
    return [
        f"warning: {files} of this commit are Git LFS pointers, not the contents: {shown}",
        "         git push does not send LFS objects. Commit these files to git itself.",
    ]


def _is_pointer(path: Path) -> bool:
    try:
        raw = own_file(path, 200)
    except (InvalidManifest, OSError):
        return False
    # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    return raw is not None and raw.startswith(b"version https://git-lfs.github.com/spec/")
