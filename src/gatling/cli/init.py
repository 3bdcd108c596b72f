"""`gatling init`: a gatling.toml to begin with, or a file for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatling.errors import InvalidInput
from gatling.ui.output import echo, echo_text

if TYPE_CHECKING:
    from gatling.cli.targets import Host
    from gatling.project.ci import Service


@click.command("init")
@click.option("--github-actions", is_flag=True, help="Write .github/workflows/deploy.yml instead.")
@click.option("--gitlab-ci", is_flag=True, help="Write .gitlab-ci.yml instead.")
def init_command(github_actions: bool, gitlab_ci: bool) -> None:
    """Write a gatling.toml with all keys commented out to the current directory.

    The file is optional. Without it, all settings have their defaults.

    With --github-actions or --gitlab-ci, write a job that deploys to the server and the app of the
    project's git remote, and print how to give the job a key. An existing file is never changed.

    \b
    Examples:
      cd ~/projects/shop && gatling init
      gatling init --github-actions
    """
    if not (github_actions or gitlab_ci):
        _write_manifest()
        return
    from gatling.project import ci

    wanted = ((github_actions, ci.GITHUB), (gitlab_ci, ci.GITLAB))
    for service in [service for given, service in wanted if given]:
        _write_job(service)


def _write_manifest() -> None:
    from gatling.project import manifest, template

    if not _write(Path(manifest.NAME), template.commented()):
        raise InvalidInput(f"There is already a {manifest.NAME} here.")
    if not Path("mix.exs").is_file():
        echo("There is no mix.exs here: is this the project's directory?", err=True)
    echo(f"{manifest.NAME} was written. Uncomment the settings that you want to change.")


def _write_job(service: Service) -> None:
    """Write the file of a CI service. Print the job instead, if the project has such a file."""
    from gatling.cli import targets
    from gatling.project import ci

    project, host, app = _destination()
    branch = _branch(project)
    text = service.job(targets.url(host, app), branch)
    if not _write(project / service.file, text):
        echo_text(text)
        raise InvalidInput(
            f"There is already a {service.file} here. It was not changed.",
            hint="Add the job above to it, or move the file away and try again.",
        )
    echo(f"{service.file} was written. It pushes {branch} to {app} on {host.name}.")
    if not {".", ":"} & set(host.name):
        echo(f"CI must be able to resolve the name {host.name}, which has no domain.", err=True)
    echo("", "Before its first run:", *ci.steps(service, app, host.name, host.port))


def _destination() -> tuple[Path, Host, str]:
    """The project, and the server and the app that its git remotes name."""
    from gatling import paths
    from gatling.cli import targets

    project = targets.in_project()
    if project is None:
        raise InvalidInput("This directory is in no git repository.")
    host = targets.choose(targets.remotes())
    apps = sorted(targets.apps_at(targets.remotes(), host, paths.default_root())) if host else []
    if host is None or len(apps) != 1:
        named = f"several apps: {', '.join(apps)}" if apps else "no app on a server"
        raise InvalidInput(
            f"The git remotes of {project} name {named}.",
            hint="`gatling remote add gatling@SERVER` adds the remote gatling, which decides.",
        )
    return project, host if "@" in host.target else targets.parse(host.target), apps[0]


def _branch(project: Path) -> str:
    """The branch that deploys: of gatling.toml, or main or master, whichever exists."""
    from gatling import process
    from gatling.project import manifest, settings

    branches = settings.parse(manifest.read(project)).branches
    for branch in branches:
        argv = ["git", "show-ref", "--verify", "--quiet", f"refs/heads/{branch}"]
        if process.run(argv, cwd=project, timeout=10, check=False).status == 0:
            return branch
    return branches[0]


def _write(file: Path, text: str) -> bool:
    """Write a new file; False if it exists."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise InvalidInput(f"{file.name} cannot be written: {error.strerror}.") from None
    return True
