"""Copies the packages of one environment into another: `ENVIRONMENT/bin/python -I THIS OTHER`.

bin/install does so when it installs a version of Gatling that needs the packages of the one before.
Nothing but what pip has installed is copied, each file only if it has the hash that pip recorded.
Gatling itself is left out. The exit status is 1 if a file is missing or has another hash.
"""

import base64
import hashlib
import shutil
import sys
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path

OWN = "gatling"


def copy(package: Distribution, target: Path) -> None:
    """Copy the modules of a package; its programs, which name the environment, are not needed."""
    for file in package.files or ():
        if ".." in file.parts:
            continue
        source, to = Path(str(file.locate())), target / file
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, to)
        if file.hash is not None:
            digest = hashlib.new(file.hash.mode, to.read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != file.hash.value:
                raise OSError(f"{source} has changed since it was installed")


def main() -> None:
    """Copy, or end with the reason why not."""
    modules = Path(sysconfig.get_path("purelib"))
    target = sys.argv[1] / modules.relative_to(sys.prefix)
    try:
        for package in distributions(path=[str(modules)]):
            if package.metadata["Name"] != OWN:
                copy(package, target)
    except OSError as error:
        sys.exit(f"gatling: installing all packages again: {error}")


if __name__ == "__main__":
    main()
