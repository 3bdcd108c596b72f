"""A user who came over SSH."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Visitor(NamedTuple):
    """A user who came over SSH. It is the object of click's context."""

    may: Callable[[str], bool]
    """Whether the key may use a command, or one in a group: `config set`, `config`."""
    is_admin: bool
    address: str
    """This server, such as `gatling@web1`."""
    greeting: str
    """The user's role and how to call commands, for the list of all commands."""


def is_shown(app: str) -> bool:
    """Whether the caller may see an app: over SSH some keys see only their own (ssh/access.py)."""
    shown = os.environ.get("GATLING_APPS", "*").split(",")
    return "*" in shown or app in shown


def is_visitor() -> bool:
    """Whether the caller came over SSH (ssh/access.py)."""
    return "GATLING_ROLE" in os.environ


def may_install() -> bool:
    """Whether the caller may install programs: over SSH only an admin may (ssh/access.py)."""
    return os.environ.get("GATLING_ROLE", "admin") == "admin"
