"""The changes that a project's env.sh and vm.args make to the flags of its node.

`rel/env.sh.eex` runs after Gatling has set its variables, and `rel/vm.args.eex` is read beside
them. Both can remove the flags by which Gatling reaches a node: its name, its port, its cookie.
Only the command line of the running node counts; the files only show who changed it. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

ENV_SH, VM_ARGS = "rel/env.sh.eex", "rel/vm.args.eex"


class Files(Struct, frozen=True):
    """The text of a release's env.sh and vm.args, as they were built."""

    env_sh: str = ""
    vm_args: str = ""

    def who(self, variable: str, flag: str) -> str:
        """Name the file that sets a variable or a flag, and the value, or say that neither does."""
        export = re.search(rf"^[ \t]*(?:export[ \t]+)?{variable}=(\S*)", self.env_sh, re.MULTILINE)
        if export:
            return f"{ENV_SH} sets {variable}={_short(export[1])}"
        option = re.search(rf"^[ \t]*({flag})\b(.*)", self.vm_args, re.MULTILINE)
        if option:
            return f"{VM_ARGS} has {option[1]} {_short(option[2].strip())}".rstrip()
        return f"neither {ENV_SH} nor {VM_ARGS} explains it"


def faults(argv: Sequence[str], files: Files, *, node: str, port: int) -> list[str]:
    """Why Gatling cannot talk to a node with this command line as it should, in words."""
    names = [*_values(argv, "-name"), *_values(argv, "-sname")]
    if not names:
        return [f"distribution is off: {files.who('RELEASE_DISTRIBUTION', '-dist_listen')}"]
    found = []
    if set(names) != {node}:
        other = next(name for name in names if name != node)
        why = files.who("RELEASE_NODE", "-s?name")
        found.append(f"the node is called {_short(other)}, not {node}: {why}")
    if _values(argv, "-erl_epmd_port") != [str(port)]:
        why = files.who("ERL_ZFLAGS", "-erl_epmd_port")
        found.append(f"the node does not listen on its own port, {port}: {why}")
    elif _values(argv, "-start_epmd") != ["false"]:
        why = files.who("ERL_ZFLAGS", "-start_epmd")
        found.append(f"the node starts an epmd: {why}")
    if len(set(_values(argv, "-setcookie"))) > 1:
        found.append(
            f"the node has a different cookie: {files.who('RELEASE_COOKIE', '-setcookie')}"
        )
    return found


def _flags(argv: Sequence[str]) -> Sequence[str]:
    """A command line without what is the program's own."""
    return argv[: argv.index("-extra")] if "-extra" in argv else argv


def _values(argv: Sequence[str], flag: str) -> list[str]:
    own = _flags(argv)
    return [own[at + 1] for at, word in enumerate(own[:-1]) if word == flag]


def _short(text: str) -> str:
    return text.strip("\"'")[:60]
