"""The differences between two releases, as the agent in the running node reports them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path


class Answers(Struct, frozen=True):
    """Files that hold what the nodes of the old and the new release answered. Mode 0600."""

    old: Path
    new: Path


class Beam(Struct):
    """The properties of a compiled module that are visible from outside."""

    module: str
    app: str = ""
    file: str = ""
    on_load: bool = False
    struct: str | list[str] = "none"
    """Its struct's fields; `none`, or `unknown` when only running it shows them."""
    runtime: bool = False
    """Whether it belongs to Elixir or OTP itself."""
    old: Beam | None = None

    @property
    def consolidated(self) -> bool:
        """Whether it is a protocol as the release consolidated it, whosever it is."""
        return "/consolidated/" in self.file


class Removed(Struct):
    """A module that is no longer there."""

    module: str
    app: str
    consolidated: bool = False


class AddedApp(Struct):
    """An application that was not there before."""

    name: str
    runtime: bool


class ChildChange(Struct):
    """A child that a supervisor starts otherwise, and what differs, in words and without values."""

    id: str
    how: list[str]


class Setup(Struct):
    """A running part that the target would set up differently, by code that a swap does not run."""

    module: str
    function: str
    """The function that sets it up, as people write it: `Shop.Cache.init/1`."""
    through: str
    """The function that differs; with `effect`, the one that is called otherwise."""
    own: bool = False
    """Whether a code_change of the module's own came, went or changed with it."""
    effect: bool = False


class TreeChange(Struct):
    """The changes below one supervisor; or, with `error`, why they are not known."""

    app: str
    path: list[str] = []
    strategy: str = "one_for_one"
    flags: str = "same"
    reordered: bool = False
    start: list[str] = []
    stop: list[str] = []
    changed: list[ChildChange] = []
    opaque: list[str] = []
    error: str = ""


class Schema(TypedDict):
    """An Ecto schema, as hashes."""

    known: int
    made: int


class Nature(TypedDict, total=False):
    """The properties of a module that only the planner can find out."""

    struct: str | list[str]
    code_change: str
    schema: str | Schema


Who = tuple[str, list[str]]
"""A process's name, and its callback modules."""


class Comparison(Struct):
    """How a target differs from the live release, and what a swap would meet in the node."""

    erts: str | list[str]
    """`same`, or the two versions; then nothing else is known."""
    changed: list[Beam] = []
    added: list[Beam] = []
    removed: list[Removed] = []
    callers: list[tuple[str, str]] = []
    """Changed and removed modules that call, as they are in the live release, a function that is
    gone in the target; and such a function. A swap waits until no process executes them.
    """
    broken: list[tuple[str, str]] = []
    """Modules that would call, as they are in the target, a function which it lacks; and which."""
    apps_added: list[AddedApp] = []
    apps_removed: list[str] = []
    versions: list[tuple[str, str, str, bool]] = []
    """Application, version before and after, whether it belongs to Elixir or OTP."""
    callbacks: list[tuple[str, str]] = []
    """Applications of which the callback `module`, or its `arguments`, differ."""
    boot_keys: list[tuple[str, str]] = []
    """Application, and what of its start differs: a key of its .app file, or its `type`."""
    app_env: list[str] = []
    """Applications whose .app files give other values to their environment."""
    setup: list[Setup] = []
    application_modules: list[tuple[str, str]] = []
    asks_trees: list[str] = []
    """Applications whose supervision tree may differ, judged by the code of both releases."""
    asks_modules: list[str] = []
    """Changed modules of which the struct or the schema may differ."""
    boot_files: list[str] = []
    config_files: list[str] = []
    config_modules: list[str] = []
    """Modules that runtime.exs calls, where any code changes."""
    providers: list[str] = []
    native: list[tuple[str, str]] = []
    assets: list[str] = []
    """Applications of which files in priv differ, by more than the time in a digest's manifest."""
    data: list[tuple[str, str]] = []
    """Application and file in priv that a process may have read when it started."""
    overlays: list[str] = []
    """Files beside the applications (rel/overlays) that differ."""
    drift: list[str] = []
    lingering: list[tuple[str, list[Who]]] = []
    kept: list[tuple[str, str]] = []
    """Changed modules of which a table or a persistent term holds a function; and which one."""
    holding: list[tuple[str, list[Who]]] = []
    """Modules of which processes hold functions from before the last swap, and which processes."""
    orphans: list[tuple[str, list[Who]]] = []
    """Modules that are gone and of which processes run, and which processes."""
    processes: list[tuple[str, int]] = []
    memory: int = 0
    pages: int = 0
    """Open LiveViews that understand the message to render again."""
    env: list[tuple[str, str, str]] = []
    """Application, key, and how the change reaches it: delivered, at_start, boot_only, opaque."""
    modules: tuple[list[tuple[str, Nature]], list[tuple[str, Nature]]] = ([], [])
    """The planner's findings about some modules, in the old release and in the new one."""
    trees: list[TreeChange] = []

    @property
    def code_or_assets(self) -> bool:
        """Whether an open page may show something else now."""
        return bool(self.changed or self.added or self.removed or self.assets)

    @property
    def starts_something(self) -> bool:
        """Whether children or applications are started in the node."""
        return bool(self.apps_added) or any(change.start for change in self.trees)


STANDARD_PROVIDERS = {"Elixir.Config.Reader", "Elixir.Distillery.Releases.Config.Providers.Elixir"}


def questions(comparison: Comparison, release_name: str) -> tuple[list[str], list[str]] | None:
    """The applications whose trees, and the modules whose nature, only a planner can find out.

    None when no planner is needed: only code changed that no supervisor and no config refers to.
    """
    callbacks = dict(comparison.application_modules)
    trees = set(comparison.asks_trees)
    config = (
        comparison.config_files
        or comparison.config_modules
        or comparison.app_env
        or comparison.overlays
        or comparison.apps_added
        or not set(comparison.providers) <= STANDARD_PROVIDERS
    )
    if config and release_name in callbacks:
        trees.add(release_name)
    if not (trees or comparison.asks_modules or config):
        return None
    return sorted(trees), comparison.asks_modules
