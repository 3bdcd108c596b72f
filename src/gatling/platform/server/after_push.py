"""The last command of a push's unit: `python3 -I -S after_push.py GATLING APP`.

A push that ended by itself, with success or an error, has cleaned up already. One that was killed
is recovered: systemd.exec(5) has the values of $SERVICE_RESULT. A program of its own, and only the
standard library, since it runs after every push and a shell's syntax does not survive systemd-run.
"""

import os
import sys

BY_ITSELF = ("success", "exit-code")


def main(gatling: str, app: str) -> None:
    """Become `gatling recover APP` if the push was killed."""
    if os.environ.get("SERVICE_RESULT") not in BY_ITSELF:
        os.execv(gatling, [gatling, "recover", app])  # noqa: S606 (no shell)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
