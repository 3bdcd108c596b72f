"""Export as a program of its own, which an app's user runs.

`python -m gatling.platform.server.export HOME APP COMMIT DIRECTORY`. It reports an error in
a last line that begins with a NUL.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gatling.errors import GatlingError
from gatling.platform.server.home import ServerPaths
from gatling.project import source


def main(home: str, app: str, commit: str, directory: str) -> int:
    """Export a commit into the build directory of the app; the exit status."""
    try:
        paths = ServerPaths(Path(home), app)
        source.export(paths, commit, lambda text: print(text, flush=True), directory)  # noqa: T201
    except GatlingError as error:
        import json

        told = {"what": error.what, "hint": error.hint, "log": error.log}
        sys.stdout.write("\0" + json.dumps(told) + "\n")
        return int(error.exit_status)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
