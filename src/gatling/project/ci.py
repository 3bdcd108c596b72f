"""Deploying from CI: the file for GitHub Actions or GitLab CI. docs/how-to/ci.md shows both.

A branch that `deploy.branch` accepts has no character that is special in YAML, in a filter of
GitHub's or in a shell.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Service:
    """A CI service: where it reads its jobs, how the job looks, and how it keeps secrets."""

    file: str
    job: Callable[[str, str], str]
    """From the address that git pushes to, and the branch."""
    secrets: tuple[str, ...]
    """How its two secrets are stored, with places for the files `key` and `hosts`."""


def github(url: str, branch: str) -> str:
    """A workflow that pushes the branch to `url`, the address of an app for git."""
    return f"""\
name: Deploy
on:
  push:
    branches: ["{branch}"]
permissions:
  contents: read
concurrency: deploy
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0 # Gatling rejects a push from a shallow clone
      - name: Push to the server
        env:
          GATLING_KEY: ${{{{ secrets.GATLING_KEY }}}}
          GATLING_KNOWN_HOSTS: ${{{{ secrets.GATLING_KNOWN_HOSTS }}}}
        run: |
          if [ "$(git rev-parse --is-shallow-repository)" = true ]; then git fetch --unshallow; fi
          install -d -m 700 ~/.ssh
          (umask 077 && printf '%s\\n' "$GATLING_KEY" > ~/.ssh/gatling)
          printf '%s\\n' "$GATLING_KNOWN_HOSTS" >> ~/.ssh/known_hosts
          export GIT_SSH_COMMAND="ssh -i ~/.ssh/gatling -o IdentitiesOnly=yes"
          git push {shlex.quote(url)} HEAD:refs/heads/{branch}
"""


def gitlab(url: str, branch: str) -> str:
    """A pipeline that pushes the branch to `url`, the address of an app for git."""
    return f"""\
deploy:
  stage: deploy
  image: alpine:3
  variables:
    GIT_DEPTH: "0" # Gatling rejects a push from a shallow clone
  resource_group: production
  rules:
    - if: $CI_COMMIT_BRANCH == "{branch}"
  script:
    - apk add --no-cache git openssh-client
    - if [ "$(git rev-parse --is-shallow-repository)" = true ]; then git fetch --unshallow; fi
    - chmod 600 "$GATLING_KEY"
    - export GIT_SSH_COMMAND="ssh -i $GATLING_KEY -o IdentitiesOnly=yes -o UserKnownHostsFile=$GATLING_KNOWN_HOSTS"
    - git push {shlex.quote(url)} HEAD:refs/heads/{branch}
"""  # noqa: E501


GITHUB = Service(
    ".github/workflows/deploy.yml", github,
    (
        "Store both as secrets of the repository, for example with GitHub's own command line.",
        "  gh secret set GATLING_KEY < {key}",
        "  gh secret set GATLING_KNOWN_HOSTS < {hosts}",
    ),
)  # fmt: skip
GITLAB = Service(
    ".gitlab-ci.yml", gitlab,
    (
        "Store both as CI/CD variables of the project. Give them the type File, and protect them.",
        "  GATLING_KEY: the text of {key}, with the line end after its last line",
        "  GATLING_KNOWN_HOSTS: the text of {hosts}",
    ),
)  # fmt: skip


def steps(service: Service, app: str, host: str, port: str | None) -> list[str]:
    """List the steps that remain before the first run, as numbered lines."""
    key, hosts = f"~/ci-{app}", f"~/ci-{app}-hosts"
    scan = f"ssh-keyscan -t ed25519 {f'-p {port} ' if port else ''}{host}"
    return [
        f"1. Create a key for CI alone, and let it deploy {app}. Adding it needs an admin key.",
        f"     ssh-keygen -t ed25519 -N '' -C ci-{app} -f {key}",
        f"     gatling server keys add ci-{app} --app {app} < {key}.pub",
        "2. Print the server's host key, and compare its fingerprint with the one on the server.",
        f"     {scan} > {hosts}",
        f"     ssh-keygen -lf {hosts}",
        "     ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub   (on the server)",
        *_stored(service, key, hosts),
        f"4. Delete the files: rm {key} {key}.pub {hosts}",
        f"5. Commit {service.file} and push it.",
    ]


def _stored(service: Service, key: str, hosts: str) -> list[str]:
    first, *rest = service.secrets
    return [f"3. {first}", *(f"   {line.format(key=key, hosts=hosts)}" for line in rest)]
