"""Groups that show a user only the commands that the user's key allows."""

from __future__ import annotations

import click

from gatling.cli.visitor import Visitor


class Group(click.Group):
    """A group whose help and guesses contain only commands that the user may use."""

    def shown(self, ctx: click.Context) -> list[str]:
        """The names of the commands that are shown to the user."""
        visitor, path = ctx.find_root().obj, path_of(ctx)
        found = self.list_commands(ctx)
        if not isinstance(visitor, Visitor):
            return found
        return [name for name in found if visitor.may(" ".join([*path, name]))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click: the commands with their first sentences."""
        below = [(name, self.get_command(ctx, name)) for name in self.shown(ctx)]
        rows = [
            (name, command.get_short_help_str(limit=formatter.width))
            for name, command in below
            if command is not None and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click. The error for an unknown command names the command that was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from gatling.cli import suggestions

            # click names the nearest command itself, whichever it is
            path, user = path_of(ctx), ctx.find_root().obj
            visitor = user if isinstance(user, Visitor) else None
            hint = suggestions.for_command([*path, *args], len(path), self.shown(ctx), visitor)
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", error.ctx) from None


def path_of(ctx: click.Context) -> list[str]:
    """The words of a group or command, without the program's name."""
    path: list[str] = []
    while ctx.parent is not None:
        path.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return path
