"""A site's databases -> Parquet files: one consistent snapshot, only the columns that are used."""

import asyncio
import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncmy.errors import Error
from tqdm import tqdm

from chameleon_usage.errors import UsageError
from chameleon_usage.io.databases import Address
from chameleon_usage.io.files import is_store
from chameleon_usage.io.grants import Wanted, wanted
from chameleon_usage.io.privacy import Privacy
from chameleon_usage.io.snapshot import Plan, Snapshot, TableError, plan
from chameleon_usage.io.stores import held, replacing
from chameleon_usage.models.site import Site
from chameleon_usage.snapshots.history import MANIFEST
from chameleon_usage.snapshots.record import recording

KIND = "extract"


def extract(
    site: Site,
    address: Address,
    place: str,
    *,
    privacy: Privacy | None = None,
    skip_missing: bool = False,
    progress: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """Copy the tables that a site's adapters read to ``<place>/<site>``.

    In a directory the extraction is a snapshot of the site's record: what it supersedes of the
    earlier one is kept (``record.recording``). In a store it takes the earlier one's place.

    A table that is missing or not granted is noted and the rest goes on. But nothing is replaced by
    nothing: if an earlier extraction has a table that cannot be read now, it stays as it is.

    Args:
        site: its configuration.
        address: of the server that holds all of its schemas.
        place: a directory, or the URL of a store; files in the site's directory that no extraction
            wrote stay.
        privacy: what becomes of projects and users; without it they stay.
        skip_missing: replace an earlier extraction even by one that lacks some of its tables; the
            record in a directory keeps these as they were last read.
        progress: show a bar.

    Returns:
        the manifest as it was written, and those of its missing tables that an adapter of the site
        cannot do without.

    Raises:
        UsageError: the site has no databases, the place holds other tables, the server refuses or
            is lost, no table can be read, or an earlier extraction would lose a table.
    """
    tables = wanted(site)
    earlier, last = _earlier(place, site.key, tables)

    def none_lost(missing: dict[str, str]) -> None:
        lost = "; ".join(f"{name} {missing[name]}" for name in sorted(earlier & missing.keys()))
        if lost and not skip_missing:
            raise UsageError(
                f"{place}/{site.key}: an earlier extraction has what cannot be read now: {lost}. "
                "It stays as it is; grant these again (chameleon-usage grants), or replace it all "
                "the same with --skip-missing"
            )

    async def run() -> tuple[dict[str, Any], list[str]]:
        async with Snapshot(address, privacy) as snapshot:
            head = await snapshot.begin()
            if head["as_of"] == last:  # the record knows a snapshot by its second
                await asyncio.sleep(1)
                head = await snapshot.begin()
            listed = await snapshot.columns({table.schema for table in tables})
            plans, missing = _plans(tables, listed, earlier)
            none_lost(missing)
            replaced = earlier | {table.name for table in tables}
            with (
                replacing(place, site.key, replaced)
                if is_store(place)
                else recording(Path(place) / site.key, replaced)
            ) as scratch:
                written = {}
                with tqdm(unit="row", unit_scale=True, disable=not progress) as bar:
                    for chosen in plans:
                        name = chosen.table.name
                        bar.set_description(name)
                        try:
                            written[name] = await snapshot.dump(chosen, scratch, bar)
                        except TableError as error:
                            missing[name] = str(error)
                none_lost(missing)
                if not written:
                    raise UsageError(
                        f"{address}: no table of {site.name} can be read; "
                        "see 'chameleon-usage grants'"
                    )
                manifest = {
                    "site": site.key,
                    "name": site.name,
                    "kind": KIND,
                    **head,
                    **({"projects_and_users": privacy.name} if privacy else {}),
                    "schema_revisions": await snapshot.revisions(listed),
                    "tables": written,
                    "missing": missing,
                }
                (scratch / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        return manifest, [t.name for t in tables if t.needed and t.name in missing]

    # The rows pass as millions of small objects. What was there before them is not searched anew
    # for each batch of these: a third of the time.
    gc.freeze()
    try:
        return asyncio.run(run())
    except Error as error:
        raise UsageError(
            f"{address}: the server refused or was lost ({error.args[-1]}); nothing was written, "
            "run it again"
        ) from None
    finally:
        gc.unfreeze()


def _earlier(place: str, folder: str, tables: Sequence[Wanted]) -> tuple[set[str], str]:
    """Give tables and moment of an earlier extraction; refuse a directory that holds other ones."""
    names, manifest = held(place, folder)
    if manifest.get("kind") == KIND:
        return set(manifest.get("tables", {})), str(manifest.get("as_of"))
    if others := sorted({f"{table.name}.parquet" for table in tables} & names):
        raise UsageError(
            f"{place}/{folder} holds tables that no extraction wrote (such as {others[0]}); "
            "name another directory with --data-dir, or move them away"
        )
    return set(), ""


def _plans(
    tables: Sequence[Wanted], listed: dict[str, dict[str, Any]], earlier: set[str]
) -> tuple[list[Plan], dict[str, str]]:
    """Part the tables that can be read from those that cannot.

    An audit table or an archive that was never there is nothing to tell of.
    """
    plans, missing = [], {}
    for table in tables:
        made = plan(table, listed.get(table.name, {}))
        if isinstance(made, Plan):
            plans.append(made)
        elif not table.extra or table.name in listed or table.name in earlier:
            missing[table.name] = made
    return plans, missing
