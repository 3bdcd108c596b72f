"""Callbacks and hooks of the project: deploy.exs, upgrade.exs, executables in .gatling/hooks.

They have the names of Gatling 1: `before_STEP` and `after_STEP` for each of its steps, also for
those that are none here. They are called in the VM that builds (priv/callbacks.ex), which then
stays until the deployment's end; so they have the rights of a build and no more. A project without
any of them is built as if this did not exist.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field

from gatling.errors import CallbackFailed, CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatling.build.steps import Steps
    from gatling.platform.conversation import Conversation

Kind = Literal["deploy", "upgrade"]
"""Whether this is an app's first deployment or a later one; the file is named after it."""

_MIX = ("mix_deps_get", "mix_compile", "mix_digest", "mix_release_init", "mix_release")
_OF_KIND = {
    "deploy": (*_MIX, "make_deploy_dir", "copy_release_to_deploy", "expand_release",
               "install_init_script", "mix_ecto_setup", "start_service", "configure_nginx"),
    "upgrade": (*_MIX, "make_upgrade_dir", "copy_release_to_upgrade", "upgrade_service"),
}  # fmt: skip
"""The steps of Gatling 1."""
OWN = ("store_release", "migrate", "start_instance", "health_check", "switch_proxy", "drain",
        "stop_previous")  # fmt: skip
"""Steps of a deployment that can have callbacks, too. Not those of a hot upgrade: it has a
connection to the node, and processes that wait. `upgrade_service` is around the whole of it."""

# The points of Gatling 1 that have no step of their own here, in its order.
BEFORE_STORE = ("before_store_release", "before_make_deploy_dir", "after_make_deploy_dir",
                "before_copy_release_to_deploy", "before_make_upgrade_dir",
                "after_make_upgrade_dir", "before_copy_release_to_upgrade")  # fmt: skip
AFTER_STORE = ("after_copy_release_to_deploy", "before_expand_release", "after_expand_release",
               "after_copy_release_to_upgrade")  # fmt: skip
BEFORE_MIGRATE = ("before_install_init_script", "after_install_init_script",
                  "before_mix_ecto_setup")  # fmt: skip
AFTER_MIGRATE = ("after_mix_ecto_setup",)
BEFORE_CUT_OVER = ("before_start_service", "before_upgrade_service")
BEFORE_DECISION = ("after_start_service", "before_configure_nginx")
LIVE = ("after_configure_nginx", "after_upgrade_service")

HOOKS = (".gatling", "hooks")
MAX_NOTES = 10


def points(kind: Kind) -> list[str]:
    """The names of all callbacks that a deployment of this kind can have."""
    steps = (*_OF_KIND[kind], *OWN)
    return [f"{when}_{step}" for step in steps for when in ("before", "after")]


class Found(Struct, frozen=True):
    """The callbacks that a project has."""

    kind: Kind
    file: str = ""
    """deploy.exs or upgrade.exs, if it is there."""
    hooks: dict[str, str] = field(default_factory=dict)
    """Executables by the name of the callback that they are."""
    notes: tuple[str, ...] = ()
    """Notes on files that look like callbacks but are none."""

    @property
    def any(self) -> bool:
        """Whether there is anything to call, judged by names."""
        return bool(self.file or self.hooks)


def find(project: Path, kind: Kind) -> Found:
    """Look for callbacks in the directory of mix.exs. Nothing is followed out of it, or opened."""
    file, hooks, notes = f"{kind}.exs", {}, []
    if not _is_file(project, file):
        file = ""
    known = {*points("deploy"), *points("upgrade")}
    for name, executable in _hooks(project):
        shown = "/".join((*HOOKS, name if name.isprintable() else repr(name)))
        if name not in known:
            notes.append(f"{shown} is not the hook of any step{_meant(name, known)}")
        elif not executable:
            notes.append(
                f"{shown} is not executable and was not called (`git update-index --chmod=+x"
                f" {shown}`)"
            )
        elif name in points(kind):
            hooks[name] = str(project.joinpath(*HOOKS, name))
    return Found(kind, file, hooks, tuple(notes[:MAX_NOTES]))


class Callbacks:
    """The callbacks of one deployment; where there are none, nothing happens."""

    def __init__(
        self,
        found: Found | None = None,
        facts: dict[str, Any] | None = None,
        *,
        seconds: float = 0,
        armed: Callable[[], bool] = lambda: True,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`facts` are what each call is given, None standing for what is not known yet.

        `seconds` is the time limit of the build, and of each call after it. As long as `armed`,
        one that fails raises; then it is a `note`.
        """
        self._found = found or Found("deploy")
        self.facts = facts or {}
        self._seconds, self._armed, self._note = seconds, armed, note
        self._deadline = 0.0
        self._functions: frozenset[str] = frozenset()
        self._left: set[str] = set()
        self._conversation: Conversation | None = None
        self._steps: Steps | None = None

    @property
    def any(self) -> bool:
        """Whether the project has some."""
        return self._found.any

    @property
    def file(self) -> str:
        """The name of the project's file with callbacks; empty when it has none."""
        return self._found.file

    def build(self, conversation: Conversation, seconds: float, steps: Steps) -> None:
        """Attend to the build, which reports its result. Raises CallbackFailed and CommandFailed.

        `close` ends the conversation.
        """
        self._steps = steps
        self._deadline = time.monotonic() + seconds
        self._conversation = conversation
        self._functions = frozenset(self._heard("callbacks").split())
        self._tell_unknown()
        known = {*self._functions, *self._found.hooks}
        self._left = known & set(points(self._found.kind))
        self._say("points", sorted(self._left))
        self._heard("built")
        self.at(*BEFORE_STORE)
        self._deadline = 0

    def at(self, *names: str) -> None:
        """Call these where the project has them, in this order; each once in a deployment."""
        for name in names:
            if name in self._left:
                self._left.discard(name)
                self._call(name)

    def over(self) -> None:
        """Call nothing from now on: callbacks are not meant for what follows."""
        self._left = set()

    def close(self) -> None:
        """End the VM, with everything that callbacks have started."""
        self.over()
        if self._conversation is not None:
            self._conversation.close()

    def _call(self, name: str) -> None:
        assert self._steps is not None  # noqa: S101 (for the type checker: only `build` has names)
        self._steps.begin(name)
        self.facts |= {"callback": name, "step": name.partition("_")[2]}
        self.facts["version"] = self._steps.facts.get("version")
        try:
            if name in self._functions:
                self._ask(f"{name} of {self.file}", "call", name, self.facts)
            if name in self._found.hooks:
                path = self._found.hooks[name]
                what = "/".join((*HOOKS, name))
                self._ask(what, "hook", path, variables(self.facts))
        except CallbackFailed as error:
            if self._armed():
                raise
            # the step is not ended: it is recorded as failed
            self._note(f"{error.what} The release is already live, so the deployment continues.")
            return
        self._steps.end(name)

    def _ask(self, what: str, *term: Any) -> None:
        assert self._steps is not None  # noqa: S101
        try:
            self._say(*term)
            self._heard("ok")
        except CommandFailed as error:
            self.over()
            raise self._failed(what, error.what) from None
        except _Failed as failed:
            raise self._failed(what, f"{failed}.") from None

    def _failed(self, what: str, why: str) -> CallbackFailed:
        log = self._steps.tail if self._steps else ()
        return CallbackFailed(f"{what} failed: {why}", log=log, log_shown=True)

    def _say(self, verb: str, *rest: Any) -> None:
        import base64

        from gatling.beam import etf

        if self._conversation is not None:
            encoded = etf.encode((etf.Atom(verb), *rest))
            self._conversation.say(base64.b64encode(encoded).decode())

    def _heard(self, wanted: str) -> str:
        """Return the rest of the VM's next protocol line that begins with `wanted`.

        Until then the VM's requests are served.
        """
        assert self._steps is not None  # noqa: S101
        assert self._conversation is not None  # noqa: S101
        deadline = self._deadline or time.monotonic() + self._seconds
        while True:
            text = self._conversation.line(deadline, self._seconds)
            own, _, rest = text.partition(" ")
            word, _, rest = rest.partition(" ")
            if own != self._steps.marker:
                self._steps.line(text)
            elif word == wanted:
                return rest
            elif word == "at":
                self.at(rest)
                self._say("go")
            elif word == "failed" and wanted == "callbacks":
                raise self._failed(f"Loading {self.file}", f"{rest}.")
            elif word == "failed":
                raise _Failed(rest)
            else:
                self._steps.line(text)

    def _tell_unknown(self) -> None:
        known = set(points(self._found.kind))
        other = "upgrade" if self._found.kind == "deploy" else "deploy"
        unknown = sorted(self._functions - known)[:MAX_NOTES]
        for name in unknown:
            if name in points("upgrade" if other == "upgrade" else "deploy"):
                self._note(f"{self.file}: {name} is called only in {other}.exs")
            else:
                self._note(
                    f"{self.file}: {name} is not the callback of any step{_meant(name, known)}"
                )
        if self.file and not self._functions:
            self._note(f"{self.file} has no module with callbacks")


class _Failed(Exception):
    """A callback has failed; the text says how."""


def variables(facts: dict[str, Any]) -> dict[str, str]:
    """Facts as environment variables: one for each, and all of them as JSON in GATLING_ENV."""
    import json

    own = {
        f"GATLING_{name.upper()}": " ".join(value) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value is not None
    }
    return own | {"GATLING_ENV": json.dumps(facts)}


def _meant(name: str, known: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""


def _is_file(directory: Path, name: str) -> bool:
    """Whether there is a file of that name, or a link: that is for who builds to follow."""
    try:
        mode = (directory / name).lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _hooks(project: Path) -> Iterator[tuple[str, bool]]:
    """Names in the directory of hooks, and whether they can be run.

    By no link: it might lead to a directory whose names are not the project's to know.
    """
    opened: list[int] = []
    try:
        for part in (project, *HOOKS):
            flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if opened else 0)
            opened.append(os.open(part, flags, dir_fd=opened[-1] if opened else None))
        with os.scandir(opened[-1]) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                mode = entry.stat(follow_symlinks=False).st_mode
                runs = stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and mode & 0o111 != 0)
                if not entry.name.startswith((".", "README")):
                    yield entry.name, runs
    except OSError:  # there is none
        return
    finally:
        for fd in opened:
            os.close(fd)
