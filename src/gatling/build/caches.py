"""The caches of an app's builds: mix's compiled files, dependencies, npm's packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.paths import AppPaths
    from gatling.platform.interface import Tasks

PROGRAMS = "bin"
"""The directory below the cache for what esbuild and tailwind download (priv/binaries.ex)."""


def clean(tasks: Tasks, paths: AppPaths, directory: str, *, dependencies: bool) -> None:
    """Remove what earlier builds have compiled, and what they have fetched with `dependencies`.

    `directory` is where mix.exs is in the source. The caller holds the app's lock.
    """
    if dependencies:
        # the whole checkout: packages may be anywhere in it, and git brings the rest back
        tasks.discard(paths, paths.source)
        tasks.discard(paths, paths.cache / PROGRAMS)
        return
    for project in dict.fromkeys((paths.source, paths.source / directory)):
        tasks.discard(paths, project / "_build")
