"""The commands that build the paper."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

import click

from chameleon_usage.errors import UsageError

COMMANDS = (
    *("ablation", "checksums", "claims", "crate", "errors", "external", "html", "lab", "metrics"),
    *("pdf", "run", "seconds", "seeds", "thresholds"),
)


class Commands(click.Group):
    """The modules that hold a command each; only the one asked for is imported."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Name the commands."""
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """Give a command by its name."""
        if name not in COMMANDS:
            return None
        gc.disable()  # a third of the time would go into looking at what libraries hold for good
        command: click.Command = import_module(f"paper.{name}").main
        gc.freeze()
        gc.enable()
        return command


@click.command(cls=Commands)
def main() -> None:
    """Build the paper's parts."""


if __name__ == "__main__":
    try:
        main(prog_name="python -m paper")
    except UsageError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
