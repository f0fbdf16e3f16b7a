"""The book that was built last, for the tests that read its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import PROJECT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def built() -> Path:
    folder = PROJECT / "book" / "_build" / "html"
    if not (folder / "index.html").exists():
        pytest.skip("no book has been built: run `make book`")
    return folder


@pytest.fixture(scope="session")
def pages(built) -> list[Path]:
    return sorted(p for p in built.rglob("*.html") if "_static" not in p.parts)
