"""`gatling rollback APP --with-data`: the changes that would be lost, and the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.cli.common import confirm, progress
from gatling.text import counted
from gatling.ui.output import ago, echo, table

if TYPE_CHECKING:
    from gatling.deploy.wish import Wish
    from gatling.operations.rewinding import Rewind
    from gatling.platform.open import Gatling

SHOWN = 20
"""Tables that are listed; of more, the others are counted."""


def run(gatling: Gatling, app: str, release: int | None, given: str | None, wish: Wish) -> None:
    """Show what would be lost, ask, and go back to a release with its data."""
    from gatling.operations import rewinding

    found = rewinding.plan(gatling, app, release)
    _show(found)
    confirm(
        app, given,
        f"Return to v{found.release} of {app} with the data of {found.at}? All changes of"
        f" {found.database} since then are missing there. {found.database} itself is kept.",
    )  # fmt: skip
    done = rewinding.rewind(gatling, found, progress(), wish=wish)
    echo(f"v{found.release} is live again, as v{done.release}, on the database {done.database} with"
         f" the data of {found.at}.")  # fmt: skip
    echo(f"{done.kept} is kept, with all that was written to it. To go back to it:"
         f" gatling rollback {app} v{done.live_before}")  # fmt: skip


def _show(found: Rewind) -> None:
    """Show what is not in the data that is restored."""
    echo(f"v{found.live} is live on {found.database}. The data of v{found.release} is that of"
         f" {found.at} ({ago(found.at)}), before the migrations of v{found.before}.")  # fmt: skip
    lost = found.lost
    if lost is None:
        echo("The changes since then are not known: no counters were recorded at that time.")
        return
    echo(f"{counted(lost.transactions, 'transaction')} since then"
         + (", in these tables:" if lost.tables else ", and no rows in tables."))  # fmt: skip
    if lost.tables:
        table(
            ("table", "inserted", "updated", "deleted"),
            [(one.table, str(one.inserted), str(one.updated), str(one.deleted))
             for one in lost.tables[:SHOWN]],
        )  # fmt: skip
    if len(lost.tables) > SHOWN:
        echo(f"and {counted(len(lost.tables) - SHOWN, 'other table')}.")
