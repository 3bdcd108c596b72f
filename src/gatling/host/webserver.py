"""The system's nginx as `gatling server` finds it: its default server, its limits, its users.

Gatling leaves nginx's own configuration alone. The one exception is the example site of Debian's
package, as long as it is the package's: it would answer hosts of no app with "Welcome to nginx!".
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import resource
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import GatlingError, InvalidInput
from gatling.platform.server.helper import nginx
from gatling.proxy import parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DROP_IN = Path("/etc/systemd/system/nginx.service.d/gatling.conf")
FILES = 65536
"""Files that nginx may open: two for each proxied request, as far as its connections go."""
DROP_IN_TEXT = f"""\
# Written by Gatling: each request that is passed on takes two files.
[Service]
LimitNOFILE={FILES}
"""
SPARE_FILES = 128
"""Files of nginx that are no connections: logs, listening sockets, files that it sends."""
EXAMPLE = Path("/etc/nginx/sites-enabled/default")
DISABLED = nginx.DIRECTORY / "example-site"
"""Holds the target of the link that enabled Debian's example site, once Gatling disabled that."""

_FILE = re.compile(r"^# configuration file (\S+):$", re.MULTILINE)
_LISTEN = re.compile(r"\blisten\s+([^;{}]*\bdefault_server\b[^;{}]*);")
_VARIABLE = re.compile(r"\$\{?(gatling_\w+)")


def dump(env: Mapping[str, str]) -> dict[str, str] | None:
    """The files that the system's nginx reads; None when it refuses its configuration."""
    lines: list[str] = []
    done = process.run(
        ["nginx", "-T", "-q"], timeout=60, check=False, env=env, on_line=lines.append
    )
    return configuration("\n".join(lines)) if done.status == 0 else None


def configuration(dump: str) -> dict[str, str]:
    """The files that nginx reads, with their text less comments, from `nginx -T`."""
    pieces = _FILE.split(dump)
    return {
        name: re.sub(r"(^|\s)#.*$", "", text, flags=re.MULTILINE)
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def default_servers(files: Mapping[str, str]) -> list[str]:
    """The files that say who answers hosts of nobody on port 80."""
    return [
        name
        for name, text in files.items()
        if any(_port(listen.split()[0]) == 80 for listen in _LISTEN.findall(text))
    ]


def variables(files: Mapping[str, str]) -> dict[str, list[str]]:
    """The operator's files that use Gatling's nginx variables, with the variables."""
    return {
        name: sorted(set(found))
        for name, text in files.items()
        if not _is_gatlings(name) and (found := _VARIABLE.findall(text))
    }


def files_limit(pid: int) -> int:
    """How many files a process may open; 0 where nobody may look."""
    try:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except (OSError, ValueError):
        return 0


def master() -> int:
    """The process id of the system's nginx; 0 when it does not run."""
    with contextlib.suppress(GatlingError):
        return nginx.master(process.output)
    return 0


def comes_with(packages: Sequence[str]) -> bool:
    """Whether one of these Debian packages brings nginx, and none has done so yet: a dry run."""
    return any(name.startswith("nginx") for name in packages) and not is_installed()


def is_installed() -> bool:
    """Whether the program is there."""
    return shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") is not None


def opens_too_few() -> bool:
    """Whether an nginx that runs was started with a lower limit of open files than it may have."""
    pid = master()
    return pid != 0 and 0 < files_limit(pid) < _possible(pid)


def let_open() -> None:
    """Raise the limit of an nginx that runs: its next generation of workers inherits it.

    Not above the hard limit, which in a container may be beyond the reach of its root.
    """
    pid = master()
    with contextlib.suppress(OSError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_possible(pid), hard))


def _possible(pid: int) -> int:
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except OSError:
        return 0
    return FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)


def example_is_enabled() -> bool:
    """Whether Debian's example site answers, as the package has it, and Gatling has not seen it."""
    if not EXAMPLE.is_symlink() or DISABLED.exists():
        return False
    file = EXAMPLE.resolve()
    try:
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        shown = process.output(["dpkg-query", "-W", "-f", "${Conffiles}\n", "nginx-common"])
    except (OSError, GatlingError):
        return False
    return f" {file} {digest}" in shown


def disable_example() -> None:
    """Disable the example site; `enable_example` undoes it."""
    DISABLED.write_text(str(EXAMPLE.readlink()))
    EXAMPLE.unlink()


def enable_example() -> None:
    """Enable the example site again, if Gatling disabled it."""
    if DISABLED.exists():
        if not EXAMPLE.exists() and not EXAMPLE.is_symlink():
            EXAMPLE.symlink_to(DISABLED.read_text())
        DISABLED.unlink()


def check_removal(env: Mapping[str, str]) -> None:
    """Raise InvalidInput when nginx would not start without Gatling's part of its configuration.

    An operator's site that uses one of Gatling's variables makes nginx reject the whole
    configuration.
    """
    if not nginx.INCLUDE.exists() or not shutil.which("nginx", path=env["PATH"]):
        return
    files = dump(env)
    if files is None:
        return  # it would not start now either, and its own messages say why
    with tempfile.NamedTemporaryFile() as empty:
        without = process.run(
            [*nginx.TEST, empty.name, str(nginx.INCLUDE)],
            timeout=60,
            check=False,
            env=env,
        )
    if without.status == 0:
        return
    used = variables(files)
    named = "; ".join(
        f"{file} uses {', '.join(f'${name}' for name in names)}" for file, names in used.items()
    )
    raise InvalidInput(
        "Nothing was changed: without Gatling nginx would refuse its configuration"
        + (f", since {named}." if named else "."),
        hint="Change these lines first: `proxy_set_header Connection upgrade;` needs no variable."
        if named
        else "Run `nginx -t` and change what it names.",
        log=without.tail,
    )


def remove() -> None:
    """Remove what Gatling has of nginx, but for the files of the operator's own."""
    enable_example()
    for entry in nginx.DIRECTORY.glob("*"):
        if entry.suffix != ".d":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for directory in (nginx.DIRECTORY, DROP_IN.parent):
        with contextlib.suppress(OSError):  # not empty: the rest is the operator's
            directory.rmdir()


def findings(env: Mapping[str, str]) -> Iterator[tuple[bool, str, str]]:
    """Report which site answers unknown hosts, and how many connections apps can share."""
    files = dump(env)
    if files is None:
        return
    yield unknown_hosts(files)
    yield from connections(nginx.worker_connections(), files_limit(master()))


def unknown_hosts(files: Mapping[str, str]) -> tuple[bool, str, str]:
    """Whether hosts of no app are answered by a site that is meant for them."""
    owners = default_servers(files)
    if owners:
        return True, f"requests for unknown hosts are answered by {', '.join(owners)}", ""
    hint = "As root, run `gatling recover --units`, which writes a default server."
    return False, "Requests for unknown hosts reach the site that nginx reads first.", hint


def connections(count: int, files: int) -> Iterator[tuple[bool, str, str]]:
    """Report nginx's connections for apps and clients; `files` is its limit, 0 when unknown."""
    share = parts.limits(count)
    what = (
        f"{count} connections for each worker: up to {share.app} requests and websockets at the"
        f" same time for each app, and {share.client} for each client address. For more, raise"
        f" worker_connections in {nginx.MAIN}"
    )
    yield True, what, ""
    if 0 < files < count + SPARE_FILES:
        yield (
            False,
            f"nginx may open only {files} files, too few for its {count} connections.",
            "`gatling server install` raises the limit.",
        )


def _is_gatlings(name: str) -> bool:
    path = Path(name)
    own = nginx.DIRECTORY
    return path == nginx.INCLUDE or path.parent == own


def _port(listen: str) -> int:
    """The port of an nginx `listen` directive: an address, a port, or both."""
    last = listen.rpartition(":")[2] if not listen.endswith("]") else "80"
    return int(last) if last.isdecimal() else 80
