"""Projects and users, left out or under a pseudonym before anything is written.

A pseudonym is the keyed BLAKE2b hash of the identifier (RFC 7693): the same identifier has the
same pseudonym in every table and every extraction with that key, so that what belongs together
still does, and nobody without the key can tell whose it is, even by trying all identifiers.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.models.vocabulary import ALL_PROJECTS

if TYPE_CHECKING:
    from collections.abc import Callable

PERSONAL = ("project_id", "user_id")
"""Columns, and members of JSON documents, that name a project or a user."""
DOCUMENTS = ("spec", "data")
"""Columns that hold a JSON document."""
KEEP, OMIT = "keep", "omit"
SHORTEST_KEY, LONGEST_KEY = 16, hashlib.blake2b.MAX_KEY_SIZE
_MEMBER = re.compile(rf'("(?:{"|".join(PERSONAL)})"\s*:\s*)"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Privacy:
    """What becomes of projects and users.

    Attributes:
        key: of the pseudonyms; without one they are left out.
    """

    key: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What a manifest says of it."""
        return "pseudonymised" if self.key else "left out"

    def protect(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Replace projects and users in a raw table.

        Args:
            frame: any columns; those of ``PERSONAL`` and the members of that name in the
                documents of ``DOCUMENTS`` are replaced, all others stay.

        Returns:
            The same rows and columns; null where the identifier was null or is left out.
        """
        columns = [self._identifiers(frame[name]) for name in PERSONAL if name in frame.columns] + [
            self._documents(frame[name]) for name in DOCUMENTS if name in frame.columns
        ]
        return frame.with_columns(columns)

    def _identifiers(self, values: pl.Series) -> pl.Series:
        known = values.drop_nulls().unique()
        hashed = pl.Series([self.pseudonym(value) for value in known], dtype=pl.String)
        text = values.cast(pl.String)
        return text.replace_strict(known.cast(pl.String), hashed, default=None)

    def _documents(self, texts: pl.Series) -> pl.Series:
        return pl.Series(
            texts.name,
            [None if text is None else _MEMBER.sub(self._member, text) for text in texts],
            dtype=pl.String,
        )

    def _member(self, found: re.Match[str]) -> str:
        hashed = self.pseudonym(found[2])
        return found[1] + ("null" if hashed is None else f'"{hashed}"')

    def pseudonym(self, identifier: str) -> str | None:
        """Give 32 hexadecimal digits, the form of OpenStack's own identifiers; or none."""
        if self.key is None:
            return None
        return hashlib.blake2b(identifier.encode(), key=self.key, digest_size=16).hexdigest()


def read_key(reference: str) -> bytes:
    """Find the key that a command line refers to.

    Args:
        reference: ``${NAME}``, an environment variable that holds the key, or a file that does;
            white space around it does not count.

    Raises:
        UsageError: it is not there, or is too short or too long.
    """
    if variable := re.fullmatch(r"\$\{(\w+)\}", reference):
        place = f"the environment variable {variable[1]}"
        key = os.environ.get(variable[1], "").encode()
    else:
        place = f"the key file {reference}"
        try:
            key = Path(reference).expanduser().read_bytes()
        except OSError as error:
            raise UsageError(
                f"{place} cannot be read ({error.strerror}); make one with "
                "'openssl rand -hex 32', or name a variable as '${NAME}'"
            ) from None
    key = key.strip()
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise UsageError(
            f"{place} holds a key of {len(key)} bytes: {SHORTEST_KEY} to {LONGEST_KEY} are needed; "
            "make one with 'openssl rand -hex 32' and keep it, as another gives other pseudonyms"
        )
    return key


def project_names(text: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Give what becomes of ``project_id`` in a frame.

    Args:
        text: ``keep``, ``omit`` (all are one), or where the key of the pseudonyms is.

    Returns:
        A function that gives a frame its names; those that are null stay null but for ``omit``.
    """
    if text == KEEP:
        return pl.DataFrame.clone
    if text == OMIT:
        return lambda frame: frame.with_columns(project_id=pl.lit(ALL_PROJECTS))
    return Privacy(read_key(text)).protect


def parse_privacy(text: str) -> Privacy:
    """Read what a command line says: ``omit``, or where the key of the pseudonyms is."""
    return Privacy() if text == OMIT else Privacy(read_key(text))
