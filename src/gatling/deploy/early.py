"""The VM of a build, started before the deployment does anything else.

A VM takes longer to boot than all steps before the build, so the rest of the deployment's modules
is loaded while it boots, and this module loads few. The VM waits for a line on its standard input
and does nothing before. It ends by itself when the process that started it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gatling.build import toolchain, vm
from gatling.errors import GatlingError, Interrupted
from gatling.project import settings as project_settings
from gatling.project import toolchain_files
from gatling.state import config

if TYPE_CHECKING:
    from gatling.build.vm import Vm
    from gatling.platform.base import Surroundings, Task
    from gatling.platform.conversation import Conversation
    from gatling.platform.open import Gatling
    from gatling.project.toolchains import Asked, Toolchain
    from gatling.state.apps import App


class Waiting(Protocol):
    """A VM that the hook of the push has started before all else."""

    mark: str
    """The mark of the deployment's programs."""

    def take(self, wanted: Task) -> Conversation | None:
        """The conversation with it if it is what is wanted; otherwise it is ended."""

    def close(self) -> None:
        """End it unless it was taken."""


def start(
    gatling: Gatling, app: App, commit: str, mark: str, waiting: Waiting | None = None
) -> Vm | None:
    """Start the VM of the build of a commit, as the commit that was built before would have it.

    `mark` is that of the deployment. None when there is no such commit, or when the VM cannot be
    started: the build then reports why. The caller closes it, and `waiting`, which is taken if it
    is what would be started.
    """
    wanted = project_settings.parse(app.effective).build
    project = gatling.home.app(app.name).source / wanted.directory
    if not (project / "mix.exs").is_file():
        return None
    try:
        around, asked = gatling.apps.surroundings(app.name), toolchain_files.read(project)
        chosen = choose(gatling, around, wanted.toolchain, asked)
        around = toolchain.surround(around, gatling.toolchains, chosen)
        values = config.of_app(gatling.db, app.name)
        task = vm.task(around, values, wanted, mark, commit)
        taken = waiting.take(task) if waiting is not None else None
        return vm.Vm(task, taken) if taken is not None else vm.start(gatling.tasks, task)
    except Interrupted:
        raise
    except GatlingError:
        return None


def choose(gatling: Gatling, around: Surroundings, wanted: str, asked: Asked) -> Toolchain | None:
    """The toolchain of a build; None for the host's own. Raises MissingToolchain."""
    installed = [each.plain for each in gatling.toolchains.installed()]
    return toolchain.choose(around, wanted, asked, installed)
