"""Tables of sites in a store that fsspec knows, such as S3, instead of a directory.

A store is named by a URL (``s3://bucket/prefix``) and takes its keys, region and endpoint from the
environment or the files of its own tools (for S3: ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``,
``~/.aws/config``).
"""

import json
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import is_store, shows_password
from chameleon_usage.snapshots.history import MANIFEST


@contextmanager
def fetched(place: str, folders: Iterable[str], files: Iterable[str] = ()) -> Iterator[Path]:
    """Copy what a store holds to a directory, for as long as it is needed.

    Args:
        place: the URL of the store.
        folders: names of the directories below it that are copied, where they are there.
        files: paths or globs below it that are copied, too.

    Raises:
        UsageError: the store cannot be read, holds none of these, or the tables of a folder are
            not those of its manifest, because they are just being replaced or that was broken off.
    """
    wanted = list(folders)
    with tempfile.TemporaryDirectory() as scratch:
        # Messages name files by their paths: let these end like the URL.
        local = Path(scratch) / place.partition("://")[2].strip("/")
        local.mkdir(parents=True, exist_ok=True)
        with _reaching(place) as (system, root):
            found = [path for name in wanted for path in system.find(f"{root}/{name}")]
            found += [path for pattern in files for path in system.glob(f"{root}/{pattern}")]
            for path in found:
                target = local / path.removeprefix(root).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(path, str(target))
        if not found:
            raise UsageError(f"{place} holds no tables of {', '.join(wanted)}")
        for name in wanted:
            _check_whole(local / name, f"{place}/{name}")
        yield local


def _check_whole(folder: Path, name: str) -> None:
    manifest = _manifest_of((folder / MANIFEST).read_text() if (folder / MANIFEST).exists() else "")
    tables = manifest.get("tables", {}) if manifest.get("kind") == "extract" else {}
    for table, facts in tables.items():
        path = folder / f"{table}.parquet"
        if not path.exists() or path.stat().st_size != facts["bytes"]:
            raise UsageError(
                f"{name}: {table}.parquet is not that of the manifest: an extraction is writing it "
                "or was broken off; wait for it, or extract again"
            )


@contextmanager
def replacing(place: str, folder: str, tables: Collection[str]) -> Iterator[Path]:
    """Fill a directory whose files take the place of an earlier extraction's in a store.

    They do so one by one and the manifest last, so that ``fetched`` sees whether it has them all.

    Args:
        place: the URL of the store.
        folder: the site's directory below it.
        tables: those that go, or give way to new ones; whatever else is there stays.

    Yields:
        a scratch directory.

    Raises:
        UsageError: the store cannot be written.
    """
    with _reaching(place) as (system, root):  # better told now than when all has been read
        system.pipe_file(f"{root}/{folder}/.probe", b"")
        system.rm_file(f"{root}/{folder}/.probe")
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
        with _reaching(place) as (system, root):
            names = sorted(path.name for path in Path(scratch).iterdir())
            for name in sorted(names, key=lambda name: name == MANIFEST):
                system.put_file(f"{scratch}/{name}", f"{root}/{folder}/{name}")
            old = {path.rpartition("/")[2]: path for path in _files(system, root, folder)}
            replaced = {f"{table}.parquet" for table in tables}
            for name in sorted(old.keys() & replaced - set(names)):
                system.rm_file(old[name])


def held(place: str, folder: str) -> tuple[set[str], dict[str, Any]]:
    """Tell which files a site's directory holds, and what its manifest says (nothing: empty).

    Raises:
        UsageError: the store cannot be reached.
    """
    if not is_store(place):
        target = Path(place) / folder
        names = {path.name for path in target.iterdir()} if target.is_dir() else set()
        text = (target / MANIFEST).read_text() if MANIFEST in names else ""
        return names, _manifest_of(text)
    with _reaching(place) as (system, root):
        names = {path.rpartition("/")[2] for path in _files(system, root, folder)}
        text = system.cat_file(f"{root}/{folder}/{MANIFEST}").decode() if MANIFEST in names else ""
    return names, _manifest_of(text)


def _manifest_of(text: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text or "{}")
    except ValueError:
        manifest = None
    return manifest if isinstance(manifest, dict) else {}


def _files(system: fsspec.AbstractFileSystem, root: str, folder: str) -> list[str]:
    return list(system.find(f"{root}/{folder}", maxdepth=1))


@contextmanager
def _reaching(place: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Open a store; whatever goes wrong with it is told in its own words."""
    if shows_password(place):
        raise UsageError("the URL of the store shows a password: leave it to the environment")
    try:
        # Another process may have written: what was listed a while ago is not asked.
        system, root = fsspec.core.url_to_fs(place.rstrip("/"), use_listings_cache=False)
        yield system, root.rstrip("/")
    except UsageError:
        raise
    except ImportError as error:
        raise UsageError(
            f"{place}: {error}; for S3 install the package with its extra: 'chameleon-usage[s3]'"
        ) from error
    except Exception as error:  # each kind of store has exceptions of its own
        raise UsageError(
            f"{place}: the store cannot be used ({type(error).__name__}: {error}); "
            "check bucket, keys and endpoint"
        ) from error
