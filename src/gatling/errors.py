"""The errors that users see: few kinds, each saying what happened, why, and what to do.

GatlingError
├── InvalidInput        a name, value or request that cannot be accepted
│   └── Misused         words that a command cannot read
├── NotFound            an app, release, deployment or variable that does not exist
├── PushRefused         a push that must not be accepted as it is
├── InvalidManifest     gatling.toml says what cannot be accepted
├── BuildFailed         source, dependencies, compilation or release assembly
│   └── CallbackFailed  one of the project's callbacks or hooks
├── MigrationFailed     the new release's migrations ended with an error
├── UnhealthyRelease    the new release exits at boot or never answers
├── PortTaken           a stranger listens where an instance or the proxy must
├── ProxyRefused        nginx does not accept the configuration
├── DiskFull            no space left
├── SupervisorFailed    the process supervisor does not do what it was asked
├── HelperFailed        root's helper refuses or fails (server)
├── CertificateFailed   a CA issues no certificate, or cannot be reached
├── RegistryFailed      a registry takes or gives no image, or cannot be reached
├── ClusterFailed       a Kubernetes cluster refuses a request, or cannot be reached
├── PlannerFailed       a release cannot be asked how it would run
├── BackupUnproved      a backup was made, and is not proved
├── SwapUndone          a hot upgrade was taken back
├── NodeUnreachable     the running node cannot be talked to
├── MissingProgram      git, nginx, elixir … is not installed
├── CommandFailed       another program ended with an error
│   └── TimedOut        … or was stopped, since its time was up
├── Interrupted         the pusher or the operator called it off
├── Locked              somebody has locked the app against deployments
├── Busy                another command works on the app at this moment
├── NotAllowed          the key that came over SSH may not do this
└── Unexpected          anything else that was raised; the debug log has its traceback
"""

from __future__ import annotations

import errno
import os
import re
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


_COMMAND = re.compile(r"`gatling [^`]+`")
_PLACEHOLDER = re.compile(r"\bAPP\b")


class Exit(IntEnum):
    """Exit statuses of the command line; documented in docs/commands.md."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    INVALID = 3
    NOT_FOUND = 4
    REFUSED = 5
    BUILD_FAILED = 6
    UNHEALTHY = 7
    HOST = 8
    MIGRATION_FAILED = 9
    INTERRUPTED = 130


class GatlingError(Exception):
    """Base of everything that is shown to a user as it is.

    `what` says what happened and why, `hint` what to do; `log` holds the last lines of the log
    that belongs to it, `log_shown` whether the user has just seen them. `code` names the kind of
    error for programs; it never changes.
    """

    code = "error"
    exit_status = Exit.FAILURE
    hint = ""

    def __init__(
        self, what: str, *, hint: str = "", log: Sequence[str] = (), log_shown: bool = False
    ) -> None:
        super().__init__(what)
        self.log_shown = log_shown
        self.what = what
        self.hint = hint or type(self).hint
        self.log = tuple(log)

    def about(self, app: str) -> None:
        """Put an app's name in the place of APP in the commands of the hint."""
        self.hint = _COMMAND.sub(
            lambda command: _PLACEHOLDER.sub(lambda _: app, command[0]), self.hint
        )

    def json(self) -> dict[str, Any]:
        """The error for programs: what commands with --json print."""
        said = {"code": self.code, "message": self.what, "hint": self.hint, "log": list(self.log)}
        return {"error": said}


class InvalidInput(GatlingError):
    """A name, value or request that cannot be accepted; nothing was changed."""

    code = "invalid-input"
    exit_status = Exit.INVALID


class Misused(InvalidInput):
    """Words that a command cannot read; it was not run."""

    code = "usage"
    exit_status = Exit.USAGE


class NotFound(GatlingError):
    """No such app, release, deployment or variable."""

    code = "not-found"
    exit_status = Exit.NOT_FOUND


class PushRefused(GatlingError):
    """A push that must not be accepted as it is."""

    code = "push-refused"
    exit_status = Exit.REFUSED


class Locked(GatlingError):
    """Somebody has locked the app; nothing was built and the live release still serves."""

    code = "locked"
    exit_status = Exit.REFUSED


class InvalidManifest(GatlingError):
    """The project's gatling.toml has an error; nothing was built."""

    code = "invalid-manifest"
    exit_status = Exit.INVALID
    hint = "docs/settings.md lists all keys; `gatling init` writes a gatling.toml with them."


class BuildFailed(GatlingError):
    """The source could not be made into a release; what was live still serves."""

    code = "build-failed"
    exit_status = Exit.BUILD_FAILED


class CallbackFailed(BuildFailed):
    """One of the project's callbacks or hooks ended with an error; what was live still serves."""

    code = "callback-failed"


class MigrationFailed(GatlingError):
    """The new release's migrations ended with an error; the old release goes on."""

    code = "migration-failed"
    exit_status = Exit.MIGRATION_FAILED
    hint = (
        "Migrations that already ran are not undone. Fix the problem and push again. The settings"
        " migrate.command and migrate.timeout name the command and its time limit."
    )


class UnhealthyRelease(GatlingError):
    """The new release was started and did not become healthy; what was live still serves."""

    code = "unhealthy"
    exit_status = Exit.UNHEALTHY


class PortTaken(GatlingError):
    """A process that is not Gatling's listens on a port that is needed."""

    code = "port-taken"
    exit_status = Exit.HOST


class ProxyRefused(GatlingError):
    """nginx rejected its configuration. The previous one is applied again."""

    code = "proxy-refused"
    exit_status = Exit.HOST


class DiskFull(GatlingError):
    """No space left on the disk that holds the home."""

    code = "disk-full"
    exit_status = Exit.HOST
    hint = "Free some space (`gatling settings set APP releases.keep=3` keeps fewer releases)."


class SupervisorFailed(GatlingError):
    """The process supervisor does not answer or does not do what it was asked.

    `fault` is supervisord's code for a call that it refused, and 0 for any other failure.
    """

    code = "supervisor-failed"
    exit_status = Exit.HOST

    def __init__(
        self, what: str, *, hint: str = "", log: Sequence[str] = (), fault: int = 0
    ) -> None:
        super().__init__(what, hint=hint, log=log)
        self.fault = fault


class HelperFailed(GatlingError):
    """The helper that does for Gatling what only root can do refused a request, or failed.

    `reason` is the helper's code for a refusal.
    """

    code = "helper-failed"
    exit_status = Exit.HOST

    def __init__(
        self, what: str, *, hint: str = "", log: Sequence[str] = (), reason: str = ""
    ) -> None:
        super().__init__(what, hint=hint, log=log)
        self.reason = reason


class CertificateFailed(GatlingError):
    """No certificate was issued. The certificate of before still serves.

    `retry_at` (Unix time) is the moment before which the CA wants no further request. `domains`
    are those that the CA refused, where it says so.
    """

    code = "certificate-failed"
    exit_status = Exit.HOST

    def __init__(
        self,
        what: str,
        *,
        hint: str = "",
        retry_at: float = 0,
        forgotten: bool = False,
        domains: Sequence[str] = (),
    ) -> None:
        """`forgotten` is whether the CA does not know the account."""
        super().__init__(what, hint=hint)
        self.retry_at = retry_at
        self.domains = tuple(domains)
        self.forgotten = forgotten


class RegistryFailed(GatlingError):
    """A registry did not take or give an image. The images of before are still there.

    `reason` names the kind of failure for programs: `unreachable`, `untrusted`, `login`, `denied`,
    `missing`, `unsupported`, `busy`, `full`, `refused` or `malformed`.
    """

    code = "registry-failed"
    exit_status = Exit.HOST

    def __init__(self, what: str, *, hint: str = "", reason: str) -> None:
        super().__init__(what, hint=hint)
        self.reason = reason


class ClusterFailed(GatlingError):
    """A Kubernetes cluster refused a request, or was not reached. The apps there go on serving.

    `reason` names the kind of failure for programs: `unreachable`, `untrusted`, `login`, `denied`,
    `missing`, `quota`, `refused` or `malformed`.
    """

    code = "cluster-failed"
    exit_status = Exit.HOST

    def __init__(self, what: str, *, hint: str = "", reason: str) -> None:
        super().__init__(what, hint=hint)
        self.reason = reason


class NotOnCluster(GatlingError):
    """A command that does not work yet for an app that runs on a cluster. Nothing was changed."""

    code = "not-on-cluster"
    exit_status = Exit.INVALID
    hint = "docs/kubernetes.md lists the commands that work for apps on a cluster."


class PlannerFailed(GatlingError):
    """A throw-away node of a release, started to plan a deployment, did not answer."""

    code = "planner-failed"
    exit_status = Exit.UNHEALTHY


class BackupUnproved(GatlingError):
    """A backup of a database was made, and its proof failed or could not be completed."""

    code = "backup-unproved"
    exit_status = Exit.UNHEALTHY


class SwapUndone(GatlingError):
    """A hot upgrade failed and was taken back; what was live before serves on."""

    code = "swap-undone"
    exit_status = Exit.UNHEALTHY


class NodeUnreachable(GatlingError):
    """The running node cannot be reached over its control channel."""

    code = "node-unreachable"
    exit_status = Exit.HOST


class MissingProgram(GatlingError):
    """A program that Gatling needs is not installed."""

    code = "missing-program"
    exit_status = Exit.HOST


class CommandFailed(GatlingError):
    """Another program ended with an error or exceeded its time limit.

    `status` is its exit status, or minus the signal that killed it. It is None if the program was
    not started, was stopped, or failed in another way.
    """

    code = "command-failed"

    def __init__(
        self,
        what: str,
        *,
        hint: str = "",
        log: Sequence[str] = (),
        log_shown: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(what, hint=hint, log=log, log_shown=log_shown)
        self.status = status


class TimedOut(CommandFailed):
    """Another program exceeded its time limit, and was stopped."""

    code = "timed-out"


class Interrupted(GatlingError):
    """Called off by the pusher or the operator before the cut-over; the live release stays live."""

    code = "interrupted"
    exit_status = Exit.INTERRUPTED


class Busy(GatlingError):
    """Another command works on the app at this moment; nothing was changed."""

    code = "busy"
    exit_status = Exit.REFUSED


class NotAllowed(GatlingError):
    """The SSH key does not have this right. Nothing was changed."""

    code = "not-allowed"
    exit_status = Exit.REFUSED


class Unexpected(GatlingError):
    """An error that Gatling did not foresee; the debug log has its traceback."""

    code = "unexpected"


_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether an error says that a disk, or somebody's share of it, is full.

    An error of shutil's about several files has no number, only the texts of theirs.
    """
    if error.errno is None:
        return any(os.strerror(number) in str(error) for number in _FULL)
    return error.errno in _FULL
