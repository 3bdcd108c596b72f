"""`gatling settings …`: how Gatling treats an app."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.cli.groups import Group
from gatling.errors import InvalidInput
from gatling.ui.output import echo, print_json, table


@click.group("settings", cls=Group)
def settings_command() -> None:
    """Manage settings of an app: health check, time limits, deploy branch, retention.

    These settings override the project's gatling.toml.

    \b
    Example:
      gatling settings set shop health.path=/health health.timeout=120
    """


@settings_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List all settings with their values and sources.

    \b
    Example:
      gatling settings list shop
    """
    from gatling.operations import settings

    with opened() as gatling:
        found = settings.effective(gatling, app)
    if as_json:
        print_json(found.values)
    else:
        rows = [(key, value, found.sources[key]) for key, value in found.values.items()]
        table(("setting", "value", "from"), rows)


@settings_command.command("set")
@app_argument
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True)
def set_command(app: str, assignments: tuple[str, ...]) -> None:
    """Change settings for the next deployment. alerts.*, proxy.*, schedule.* apply immediately.

    \b
    Examples:
      gatling settings set shop deploy.branch=production
      gatling settings set shop proxy.body_limit=2g proxy.redirect_www=to-apex
      gatling settings set shop schedule.report.cron='30 3 * * *'
      gatling settings set shop alerts.errors=2 alerts.quiet=22:00-07:00
    """
    changes = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{text!r} has no '='.", hint="Write KEY=VALUE.")
        changes[key] = value
    _save(app, set_=changes, unset=())


@settings_command.command("unset")
@app_argument
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
def unset_command(app: str, keys: tuple[str, ...]) -> None:
    """Remove settings, so that gatling.toml or the default applies.

    \b
    Example:
      gatling settings unset shop health.path
    """
    _save(app, set_={}, unset=keys)


def _save(app: str, *, set_: dict[str, str], unset: tuple[str, ...]) -> None:
    from gatling.operations import settings

    with opened(app, clusters=True) as gatling:
        saved = settings.change(gatling, app, set_, unset, say=lambda text: echo(text, err=True))
        proxy = gatling.router.probe_address().host
    if set_.get("proxy.https") == "redirect":
        _warn_of_https(app, proxy)
    if not saved.waiting:
        echo("Stored and applied.")
    else:
        named = " or ".join(f"{section}.*" for section in saved.sections)
        rest = f"; {named} is applied now" if saved.applied else ""
        echo(f"Stored for the next deployment{rest}.")


def _warn_of_https(app: str, proxy: str) -> None:
    """Say so when browsers are sent where nothing answers: they remember a redirect."""
    from gatling.platform import ports

    if not ports.answers(443, proxy):
        echo(
            "Browsers are now redirected to HTTPS, but nothing answers on the proxy's port 443."
            " Unless another proxy serves HTTPS for the app's domains, undo the change:",
            f"  gatling settings unset {app} proxy.https",
            err=True,
        )
