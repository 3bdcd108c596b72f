"""An app's own SSH key, by which its builds read private git repositories.

It lies in the build directory, where only the app's builds see it (on a server neither Gatling nor
the app's instances do). So a program of the app's user creates it, prints its public part and
removes it: `python -m gatling.project.deploy_key VERB DIRECTORY COMMENT`. The last line is the
public key, or begins with a NUL and describes the error.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed, MissingProgram

if TYPE_CHECKING:
    from gatling.paths import AppPaths

KEY = "deploy_key"
KNOWN_HOSTS = "known_hosts"


def environment(paths: AppPaths) -> dict[str, str]:
    """The variables that let git use the app's key; empty without a key. ssh(1), ssh_config(5)."""
    key = paths.ssh / KEY
    # not pathlib's: a directory that its owner has closed is no reason to raise
    if not os.path.isfile(key):  # noqa: PTH113
        return {}
    words = [
        "ssh", "-i", str(key),
        "-o", "IdentitiesOnly=yes",
        "-o", f'UserKnownHostsFile="{paths.ssh / KNOWN_HOSTS}"',
        # there is nobody to ask; a key that has changed since is refused
        "-o", "StrictHostKeyChecking=accept-new",
        "-o", "BatchMode=yes",
    ]  # fmt: skip
    return {"GIT_SSH_COMMAND": shlex.join(words)}


def main(verb: str, directory: str, comment: str) -> int:
    """Do it, as the user whose key it is; the exit status."""
    ssh = Path(directory)
    try:
        if verb == "create":
            _create(ssh, comment)
        (ssh / KEY).stat()
        if verb == "remove":
            (ssh / KNOWN_HOSTS).unlink(missing_ok=True)
            (ssh / KEY).unlink()
        else:  # with the public part in no file of its own, there is none to go astray
            told = process.output(["ssh-keygen", "-y", "-f", str(ssh / KEY)])
            print(*told.split()[:2], comment)  # noqa: T201
    except FileExistsError:
        return _failed("exists")
    except FileNotFoundError:
        return _failed("none")
    except MissingProgram:
        return _failed("no ssh-keygen")
    except (CommandFailed, OSError) as error:
        return _failed(f"{error} {' '.join(getattr(error, 'log', ()))}")
    return 0


def _create(ssh: Path, comment: str) -> None:
    """Make the key as a whole: it is there with all its bytes, or not at all."""
    ssh.mkdir(mode=0o755, exist_ok=True)
    import tempfile  # slow to load, and builds only look for the key

    with tempfile.TemporaryDirectory(prefix=".new-", dir=ssh) as made:
        new = Path(made) / KEY
        process.output(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)]
        )
        (ssh / KEY).hardlink_to(new)  # unlike a rename it replaces nothing


def _failed(why: str) -> int:
    sys.stdout.write(f"\0{why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
