"""A group of subcommands whose errors say what was expected."""

from __future__ import annotations

from typing import Any

import click


class CommandGroup(click.Group):
    """A group in which a missing or unknown subcommand is one line that names what there is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, **kwargs})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order they were written."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the group's name; none at all is a usage error."""
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            raise click.UsageError(f"missing command; expected one of {self.named(ctx)}", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; an unknown one is a usage error that says what was probably meant."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], names, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"expected one of {self.named(ctx)}"
            raise click.UsageError(f"there is no command {args[0]!r}; {meant}", ctx)
        return super().resolve_command(ctx, args)

    def named(self, ctx: click.Context) -> str:
        """Return the names for a message."""
        return ", ".join(self.list_commands(ctx))
