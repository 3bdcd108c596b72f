"""The domains of apps: each belongs to one app, which has them in an order and never none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import InvalidInput, NotFound
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatling.state.database import Database


def add(db: Database, name: str, domain: str) -> bool:
    """Give a domain to an app; False when it has it already, InvalidInput when another has it."""
    return bool(add_all(db, name, [domain]))


def add_all(
    db: Database,
    name: str,
    domains: Sequence[str],
    *,
    before_its_own: bool = False,
    deployment: int | None = None,
) -> tuple[str, ...]:
    """Give domains to an app, behind those it has; which of them it did not have before.

    With `before_its_own` they come first where it has only the domain that every app is given.
    Those of a deployment can be taken back with it, until an operator adds them as well.
    Raises InvalidInput when another app has one of them; then none is added.
    """
    with db.transaction():
        if deployment is None:
            for domain in domains:
                db.execute(
                    "UPDATE domains SET deployment = NULL WHERE domain = ? AND app = ?",
                    domain,
                    name,
                )
        new = tuple(domain for domain in domains if not check(db, name, domain))
        rows = db.rows("SELECT domain, position FROM domains WHERE app = ?", name)
        positions = [row["position"] for row in rows] or [0]
        first = before_its_own and [row["domain"] for row in rows] == [f"{name}.localhost"]
        start = min(positions) - len(new) if first else max(positions) + 1
        for position, domain in enumerate(new, start):
            insert(db, name, domain, position, deployment)
    return new


def take_back_of(db: Database, name: str, deployment: int) -> tuple[str, ...]:
    """Take back the domains that a deployment added, as far as they are still there; which."""
    rows = db.rows(
        "SELECT domain FROM domains WHERE app = ? AND deployment = ? ORDER BY position",
        name,
        deployment,
    )
    found = tuple(row["domain"] for row in rows)
    take_back(db, name, found)
    return found


def take_back(db: Database, name: str, domains: Sequence[str]) -> None:
    """Take back what `add_all` added, as far as it is still there; others stay as they are."""
    with db.transaction():
        for domain in domains:
            db.execute(
                "DELETE FROM domains WHERE domain = ?1 AND app = ?2"
                " AND (SELECT count(*) FROM domains WHERE app = ?2) > 1",
                domain,
                name,
            )


def insert(
    db: Database, name: str, domain: str, position: int, deployment: int | None = None
) -> None:
    """Record a domain that no app has, in a transaction."""
    db.execute(
        "INSERT INTO domains (domain, app, added_at, position, deployment) VALUES (?, ?, ?, ?, ?)",
        domain,
        name,
        now(),
        position,
        deployment,
    )


def check(db: Database, name: str, domain: str) -> bool:
    """Whether an app has a domain; raises InvalidInput when another one has it."""
    owner = db.value("SELECT app FROM domains WHERE domain = ?", domain)
    if owner not in (None, name):
        raise InvalidInput(
            f"{domain} belongs to the app {owner}.",
            hint=f"`gatling domains remove {owner} {domain}` frees it.",
        )
    return owner is not None


def remove(db: Database, name: str, domain: str) -> Callable[[], None]:
    """Take a domain from an app; what puts it back. Raises NotFound, InvalidInput for the last."""
    with db.transaction():
        position, deployment = _take(db, name, domain)

    def put_back() -> None:
        with db.transaction():
            if not check(db, name, domain):
                insert(db, name, domain, position, deployment)

    return put_back


def _take(db: Database, name: str, domain: str) -> tuple[int, int | None]:
    """Take a domain from an app, in a transaction; its position and the deployment that added it.

    Raises NotFound, InvalidInput for the app's last domain.
    """
    row = db.row("SELECT app, position, deployment FROM domains WHERE domain = ?", domain)
    if row is None or row["app"] != name:
        raise NotFound(f"{name} has no domain {domain}.")
    if db.value("SELECT count(*) FROM domains WHERE app = ?", name) == 1:
        raise InvalidInput(
            f"{domain} is the last domain of {name}; without one it cannot be reached.",
            hint=f"First add another: `gatling domains add {name} DOMAIN`.",
        )
    db.execute("DELETE FROM domains WHERE domain = ?", domain)
    return row["position"], row["deployment"]


def move(db: Database, domain: str, source: str, target: str) -> Callable[[], None]:
    """Give a domain of one app to another, behind its own; what takes that back.

    No reader sees it with neither. Raises NotFound, InvalidInput for the last domain of `source`.
    """
    with db.transaction():
        position, deployment = _take(db, source, domain)
        insert(db, target, domain, _behind(db, target))

    def undo() -> None:
        with db.transaction():
            db.execute("DELETE FROM domains WHERE domain = ? AND app = ?", domain, target)
            if not check(db, source, domain):
                insert(db, source, domain, position, deployment)

    return undo


def _behind(db: Database, name: str) -> int:
    """The position behind all domains of an app."""
    found: int = db.value("SELECT max(position) + 1 FROM domains WHERE app = ?", name) or 1
    return found
