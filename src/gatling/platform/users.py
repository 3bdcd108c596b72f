"""The name that an app has as a user of the system, and as a role in databases."""

from __future__ import annotations


def of_app(app: str) -> str:
    """`gatling-APP`, cut and made unique if that is over 32 characters."""
    name = f"gatling-{app}"
    if len(name) <= 32:
        return name
    import hashlib  # loads OpenSSL, and few names are that long

    return f"{name[:23].rstrip('-')}-{hashlib.sha256(app.encode()).hexdigest()[:8]}"
