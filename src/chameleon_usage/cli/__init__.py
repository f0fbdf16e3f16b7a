"""The operator's command line.

config.py begins: init, check-config. data.py moves data in and out: grants, extract, record,
export. run.py computes: run, combine, check; summary.py shows what came of it, forecast.py what is
booked ahead, and projects.py who used how much. options.py holds what several commands ask for.
"""

import gc
import importlib
import os
import sys

import click

from chameleon_usage.errors import UsageError

# Polars' allocator reads this when it is loaded. Else it keeps what is let go of for seconds, and
# for each core apart: a sixth more memory for nothing.
ALLOCATOR = {"_RJEM_MALLOC_CONF": "narenas:1,dirty_decay_ms:20,muzzy_decay_ms:0"}
os.environ.update(ALLOCATOR | os.environ)

MODULES = {
    **dict.fromkeys(("init", "check-config"), "config"),
    **dict.fromkeys(("run", "combine", "check"), "run"),
    "summary": "summary",
    "forecast": "forecast",
    **dict.fromkeys(("projects", "statement"), "projects"),
    **dict.fromkeys(("grants", "extract", "record", "export"), "data"),
}
"""Command to its module, loaded when asked for: libraries of databases take seconds to start."""


class Commands(click.Group):
    """The commands of ``MODULES``."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted(MODULES)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; nothing if there is none of that name."""
        if cmd_name not in MODULES:
            return None
        module = importlib.import_module(f"{__name__}.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


EXIT_CODES = """\
Exit codes:
  0  done
  1  refused or failed: one line beginning with "Error:" says what, and the way out
  2  the command line is wrong"""


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\n{EXIT_CODES}",
)
@click.version_option(package_name="chameleon-usage", message="chameleon-usage %(version)s")
def cli() -> None:
    """Reconstruct the usage history of an OpenStack testbed from its services' databases."""


def main() -> None:
    """Run the command line; a UsageError becomes one line and exit status 1."""
    gc.set_threshold(100_000)  # to load a command makes many objects, and no garbage
    try:
        cli()
    except UsageError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
