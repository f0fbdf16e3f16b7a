"""Options that several commands have, and the sites that they choose."""

from collections.abc import Sequence
from pathlib import Path

import click

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.site import Site, load_sites

DATE = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("data/sites.yaml"),
    show_default=True,
    help="Site configuration.",
)
output_option = click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("output"),
    show_default=True,
    help="Directory of the output tables, one directory a site.",
)
bucket_option = click.option(
    "--bucket", default="1d", show_default=True, help="Length of a bucket: 1h, 1d, 1mo."
)
sites_option = click.option(
    "--site", "names", multiple=True, help="Site key; repeat it. Default: every site with data."
)
site_option = click.option("--site", "name", required=True, help="Site key.")


def read_sites(config: Path, names: Sequence[str] = ()) -> dict[str, Site]:
    """Read the configuration; refuse names of sites that it does not have."""
    sites = load_sites(config, frozenset(ADAPTERS))
    if unknown := [name for name in names if name not in sites]:
        raise UsageError(
            f"unknown site {', '.join(unknown)}; the configuration has {', '.join(sites)}"
        )
    return sites


def choose(sites: dict[str, Site], names: Sequence[str], base: Path) -> list[Site]:
    """Pick the named sites, or every site that has a directory below ``base``."""
    if names:
        return [sites[name] for name in names]
    if not base.is_dir():
        raise UsageError(
            f"no directory {base}: make the default data with 'make data', or name another "
            "with --data-dir"
        )
    found = [site for site in sites.values() if (base / site.key).is_dir()]
    if not found:
        raise UsageError(
            f"{base} holds no site's directory; expected one of {', '.join(sites)}, "
            "or name a site with --site"
        )
    return found
