"""What env.sh and vm.args have made of a node's flags, told with the file."""

from __future__ import annotations

import pytest

from gatling.runtime.node_flags import Files, faults

NODE = "shop@127.0.0.1"
OURS = "-start_epmd false -erl_epmd_port 20003 -kernel inet_dist_use_interface {127,0,0,1}"
RUN = f"beam.smp -- -root /r -setcookie c -name {NODE} {OURS} -- -extra --no-halt"


def found(command: str, env_sh: str = "", vm_args: str = "") -> list[str]:
    return faults(command.split(" "), Files(env_sh, vm_args), node=NODE, port=20003)


def test_a_node_as_gatling_starts_it() -> None:
    assert found(RUN) == []
    assert found(f"{RUN} -name other@host -setcookie x") == []  # the program's own words


@pytest.mark.parametrize(
    ("old", "new", "env_sh", "vm_args", "said"),
    [
        (f" -name {NODE}", "", "#!/bin/sh\nexport RELEASE_DISTRIBUTION=none\n", "",
         "distribution is off: rel/env.sh.eex sets RELEASE_DISTRIBUTION=none"),
        (NODE, "shop@10.0.0.1", 'export RELEASE_NODE="shop@10.0.0.1"', "",
         (f"the node is called shop@10.0.0.1, not {NODE}: rel/env.sh.eex sets"
         " RELEASE_NODE=shop@10.0.0.1")),
        (f"-name {NODE}", f"-name {NODE} -name other@127.0.0.1", "", "-name other@127.0.0.1\n",
         (f"the node is called other@127.0.0.1, not {NODE}: rel/vm.args.eex has -s?name"
         " other@127.0.0.1")),
        ("-setcookie c", "-setcookie c -setcookie own", "", "+P 1\n-setcookie own\n",
         "the node has a different cookie: rel/vm.args.eex has -setcookie own"),
        (OURS, "-smp", "ERL_ZFLAGS='-smp'", "", ("the node does not listen on its own port, 20003:"
         " rel/env.sh.eex sets ERL_ZFLAGS=-smp")),
        ("-start_epmd false", "-start_epmd true", "", "", ("the node starts an epmd: neither"
         " rel/env.sh.eex nor rel/vm.args.eex explains it")),
    ],
)  # fmt: skip
def test_what_has_been_taken_away(old: str, new: str, env_sh: str, vm_args: str, said: str) -> None:
    assert found(RUN.replace(old, new), env_sh, vm_args) == [said.replace("-s?name", "-name")]
