"""A release tree for tests, small and of the usual shape."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BEAM = b"FOR1" + random.Random(1).randbytes(10_000)
"""Nothing that can be compressed."""


def release(root: Path, *, title: str = "one") -> Path:
    """A tree with Erlang, a dependency and an app `shop`."""
    tree = root / f"tree-{title}"
    for path, content in {
        "erts-15.2/bin/erlexec": b"#!/bin/sh\n",
        "lib/kernel-10.2/ebin/kernel.beam": BEAM + b"kernel",
        "lib/elixir-1.18.3/ebin/Elixir.Enum.beam": BEAM + b"Enum",
        "lib/plug-1.16.1/ebin/Elixir.Plug.beam": BEAM + b"Plug",
        "lib/shop-0.1.0/ebin/Elixir.Shop.beam": BEAM + title.encode(),
        "lib/shop-0.1.0/priv/static/app.js": b"let shop;" * 1000,
        "releases/COOKIE": b"a secret",
        "releases/0.1.0/shop.rel": b"{release}.",
        "bin/shop": b"#!/bin/sh\necho shop\n",
    }.items():
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tree / "bin/shop").chmod(0o755)
    (tree / "erts-15.2/bin/erlexec").chmod(0o755)
    link = tree / "lib/shop-0.1.0/priv/static/latest.js"
    if not link.is_symlink():
        link.symlink_to("app.js")
    return tree


def program(file: Path, *options: str, source: str = "int main(void) { return 0; }") -> Path:
    """A compiled C program."""
    file.parent.mkdir(parents=True, exist_ok=True)
    argv = ["cc", "-o", str(file), "-x", "c", "-", "-x", "none", *options]
    subprocess.run(argv, input=source, text=True, check=True, env=os.environ | {"LC_ALL": "C"})
    return file
