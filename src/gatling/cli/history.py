"""`gatling releases APP RELEASE`, `gatling diff`: what a release brought, and what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling import names
from gatling.cli.common import app_argument, as_json, reading
from gatling.errors import InvalidInput
from gatling.text import counted
from gatling.ui.output import ago, echo, echo_text, print_json, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.operations.history import Difference, NameChanges, ReleaseDetails
    from gatling.platform.open import Gatling
    from gatling.project.history import Commit, FileChange

SHOWN = 20
"""Commits, and files, that a person sees; `--json` has more."""


@click.command("diff")
@app_argument
@click.argument("older", metavar="RELEASE")
@click.argument("newer", metavar="[RELEASE]", required=False)
@click.option("-p", "--patch", is_flag=True, help="Print the changes of the source as a patch.")
@as_json
def diff_command(app: str, older: str, newer: str | None, patch: bool, as_json: bool) -> None:
    """Compare two releases of APP: commits, files, config names, gatling.toml, toolchain.

    The default for the second RELEASE is the live release. Values of variables are not shown.

    \b
    Examples:
      gatling diff shop v1 v2
      gatling diff shop v1
      gatling diff shop v1 v2 --patch
    """
    from gatling.operations import history
    from gatling.state import apps

    first = number_of(older)
    with reading(app, clusters=True) as gatling:
        live = apps.get(gatling.db, app).live_release
        second = number_of(newer) if newer is not None else live
        if second is None:
            raise InvalidInput(f"{app} has no live release.", hint="Name both releases.")
        if patch:
            echo_text(history.patch(gatling, app, first, second))
            return
        found = history.difference(gatling, app, first, second)
    if as_json:
        print_json(found)
        return
    echo(f"{app} {found.older} → {found.newer}", style="bold")
    _show(found)


def number_of(text: str) -> int:
    """The number of a release as a person names it; raises InvalidInput."""
    number = names.release_number(text)
    if number is None:
        raise InvalidInput(f"{text!r} is not a release.", hint="For example v4.")
    return number


def show_release(gatling: Gatling, app: str, number: int, *, as_json: bool) -> None:
    """Print what is known of one release."""
    from gatling.operations import history

    found = history.details(gatling, app, number)
    if as_json:
        print_json(found)
        return
    for label, value in _rows(found):
        echo(f"{label:<12} {value}")
    if found.since is not None:
        echo("", f"Since {found.since.older}", style="bold")
        _show(found.since)


def _rows(found: ReleaseDetails) -> list[tuple[str, str]]:
    state = "live" if found.live else "retained" if found.retained else "no longer retained"
    commit = found.commit[:9]
    if found.described is not None:
        commit += f" {found.described.subject} ({found.described.author})"
    stored = f"{size(found.bytes)} of its own"
    if found.total_bytes is not None:
        stored = f"{size(found.total_bytes)}, {stored}"
    first = f"deployment {found.deployment} by {found.actor}, {found.strategy}"
    config = "no longer known" if found.config is None else ", ".join(found.config) or "none"
    return [
        ("release", f"{found.app} {found.release}, {state}"),
        ("version", found.version),
        ("commit", commit),
        ("created", f"{ago(found.created_at)} ({found.created_at})"),
        ("origin", f"config of {found.base}" if found.base else "a build"),
        ("first live", first if found.deployment else "never"),
        ("toolchain", f"Elixir {found.elixir}, Erlang/OTP {found.otp}"),
        ("size", stored),
        ("config", config),
    ]


def _show(found: Difference) -> None:
    """Print a difference, section by section; of what is equal, nothing."""
    parts = [
        *_names("config", found.config, unknown="no longer known for a removed release"),
        *_names("gatling.toml", found.settings),
    ]
    if found.toolchain:
        parts.append(("toolchain", " → ".join(found.toolchain)))
    for label, value in parts:
        echo(f"{label:<12} {value}")
    span = found.span
    if span is None:
        echo("The commits are no longer in the repository.")
        return
    if not (span.commit_count or span.dropped_count or span.file_count):
        echo("Both are built from the same source." if not parts else "The source is the same.")
        return
    echo("")
    _show_commits(f"{counted(span.commit_count, 'commit')} added", span.commits, span.commit_count)
    if span.dropped_count:
        what = f"{counted(span.dropped_count, 'commit')} of {found.older} dropped"
        _show_commits(what, span.dropped, span.dropped_count)
    _show_files(span.files, span.file_count)


def _names(label: str, found: NameChanges | None, unknown: str = "") -> list[tuple[str, str]]:
    if found is None:
        return [(label, unknown)]
    kinds = (("added", found.added), ("removed", found.removed), ("changed", found.changed))
    said = [f"{kind} {', '.join(which)}" for kind, which in kinds if which]
    return [(label, ". ".join(said))] if said else []


def _show_commits(title: str, commits: Sequence[Commit], count: int) -> None:
    echo(title, style="dim")
    for one in commits[:SHOWN]:
        echo(f"  {one.id[:9]}  {one.subject}  ({one.author}, {ago(one.at)})")
    _show_rest(count)


def _show_files(files: Sequence[FileChange], count: int) -> None:
    echo(f"{counted(count, 'file')} changed", style="dim")
    for one in files[:SHOWN]:
        lines = "binary" if one.added is None else f"+{one.added} -{one.removed}"
        echo(f"  {one.path}  {lines}")
    _show_rest(count)


def _show_rest(count: int) -> None:
    if count > SHOWN:
        echo(f"  … and {count - SHOWN} more")
