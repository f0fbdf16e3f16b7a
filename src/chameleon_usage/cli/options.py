"""Options that several commands have, and the sites that they choose."""

import importlib
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.io.files import is_store
from chameleon_usage.models.site import Site, load_sites

EXTRACT_FIRST = (
    "extract the tables with 'chameleon-usage extract', or name their directory with --data-dir "
    "(in the source tree, 'make data' makes simulated ones)"
)

DATE = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])

OWN_CONFIG, PROJECT_CONFIG = Path("sites.yaml"), Path("data/sites.yaml")


def _usual_config() -> Path:
    return OWN_CONFIG if OWN_CONFIG.exists() else PROJECT_CONFIG


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=_usual_config,
    show_default=f"{OWN_CONFIG}, else {PROJECT_CONFIG}",
    help="Site configuration.",
)
data_dir_option = click.option(
    "--data-dir",
    default="data/twin",
    show_default=True,
    help="Raw tables: <data-dir>/<site>/<schema>.<table>.parquet; or s3://BUCKET/PREFIX.",
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
option_file_option = click.option(
    "--option-file",
    type=click.Path(path_type=Path),
    help="User, password and the rest, in the form of ~/.my.cnf.",
)


def _keep_quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.meta[__name__] = value


quiet_option = click.option(
    *("-q", "--quiet"),
    is_flag=True,
    expose_value=False,
    callback=_keep_quiet,
    help="Say nothing but warnings and errors.",
)


def _is_quiet() -> bool:
    return bool(click.get_current_context().meta.get(__name__))


def say(text: str, *, err: bool = True) -> None:
    """Say what was done, unless told to be quiet."""
    if not _is_quiet():
        click.echo(text, err=err)


def progress() -> bool:
    """Whether to show bars: on a terminal, unless told to be quiet."""
    return sys.stderr.isatty() and not _is_quiet()


def read_sites(config: Path, names: Sequence[str] = ()) -> dict[str, Site]:
    """Read the configuration; refuse names of sites that it does not have."""
    if not config.exists():
        raise UsageError(
            f"no site configuration {config}: name yours with --config, or have one written by "
            "'chameleon-usage init'"
        )
    sites = load_sites(config, frozenset(ADAPTERS))
    if unknown := [name for name in names if name not in sites]:
        raise UsageError(
            f"unknown site {', '.join(unknown)}; the configuration {config} has {', '.join(sites)}"
        )
    return sites


def choose(sites: dict[str, Site], names: Sequence[str], base: Path, advice: str) -> list[Site]:
    """Pick the named sites, or every site that has a directory below ``base``.

    Raises:
        UsageError: there is none; ``advice`` says how to come by one.
    """
    if names:
        return [sites[name] for name in names]
    if not base.is_dir():
        raise UsageError(f"no directory {base}: {advice}")
    found = [site for site in sites.values() if (base / site.key).is_dir()]
    if not found:
        raise UsageError(
            f"{base} holds no site's directory; expected one of {', '.join(sites)}: {advice}, "
            "or name a site with --site"
        )
    return found


def fetched(
    place: str, folders: Iterable[str], patterns: Iterable[str]
) -> AbstractContextManager[Path]:
    """Give the directory of the raw tables; what reaches a store is slow to load."""
    if not is_store(place):
        return nullcontext(Path(place))
    stores = importlib.import_module("chameleon_usage.io.stores")
    folder: AbstractContextManager[Path] = stores.fetched(place, folders, patterns)
    return folder
