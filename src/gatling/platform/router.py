"""What Gatling needs of the proxy, on either kind of home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.proxy.route import Target
    from gatling.state.apps import App


class Router(Protocol):
    """Sends the requests for an app's domains to its live instance."""

    def ensure_running(self) -> None:
        """Make sure that the proxy takes requests; raises PortTaken or ProxyRefused."""

    def configure(self, apps: Sequence[App]) -> bool:
        """Make the proxy know these apps and no others; True when something changed.

        The configuration is tested before it takes effect. Raises ProxyRefused, leaving the one
        before in force.
        """

    def check(self) -> None:
        """Test the configuration in force; raises ProxyRefused."""

    def point(self, app: str, target: Target) -> None:
        """Send an app's requests elsewhere, at once and atomically."""

    def pointed(self, app: str) -> Target:
        """Where an app's requests are sent."""

    def url(self, app: App) -> str:
        """The address at which people reach the app."""

    def probe_address(self) -> tuple[str, int]:
        """Host and port at which the proxy answers on this machine."""
