"""The public files: listed with their checksums, taken whole, and refused if they are others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pooch
import pytest

from chameleon_usage.errors import UsageError
from paper import external
from paper.external import External
from support import PROJECT
from support.sites import SITES

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"a,b\n1,2\n"
SUM = hashlib.sha256(TEXT).hexdigest()
FILE = External("some/a.csv", "https://example.org/a.csv", len(TEXT), SUM, direct=True)
BY_HAND = External("traces/b.csv", "https://example.org/page", None, None, direct=False)


@pytest.fixture
def places(tmp_path) -> tuple[Path, Path]:
    """A place for external files, and a folder that holds some."""
    origin = tmp_path / "brought"
    (origin / "some").mkdir(parents=True)
    (origin / "some" / "a.csv").write_bytes(TEXT)
    return tmp_path / "external", origin


class TestList:
    def test_every_file_has_an_address_and_the_sum_that_can_be_known(self):
        files = external.listed()
        assert len({file.name for file in files}) == len(files) > 50
        for file in files:
            assert file.address.startswith("https://")
            assert file.direct == (file.sha256 is not None) == (file.size is not None)
            assert file.sha256 is None or len(file.sha256) == 64

    def test_what_is_cited_is_in_the_bibliography(self):
        references = (PROJECT / "book" / "references.bib").read_text(encoding="utf-8")
        for source in external.sources().values():
            assert source["licence"]
            assert source["title"]
            assert f"{{{source['citation']}," in references

    @pytest.mark.parametrize("site", [name for name in SITES if SITES[name].files])
    def test_the_sites_read_files_of_the_list(self, site, tmp_path):
        """A site finds its tables where `make external` puts them."""
        for file in external.listed():
            (tmp_path / file.name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.name).touch()
        for table, pattern in SITES[site].files.items():
            if table != "trace.lease_events":  # nobody has published any
                assert list(tmp_path.glob(pattern)), f"{site}: {table}"

    @pytest.mark.real
    def test_the_real_files_are_those_of_the_list(self, real_data):
        there = [file for file in external.listed() if (real_data / file.name).exists()]
        assert len(there) == 41
        for file in there:
            external.check(file, real_data / file.name)


class TestTaking:
    def test_from_a_folder(self, places):
        place, origin = places
        assert external.provide(FILE, place, origin)
        assert (place / FILE.name).read_bytes() == TEXT

    def test_what_has_no_fixed_place_is_found_by_its_name(self, places):
        place, origin = places
        for quarter in ("2026_03_31", "2026_06_30"):
            (origin / f"chi_{quarter}").mkdir()
            (origin / f"chi_{quarter}" / "b.csv").write_text(quarter)
        assert external.provide(BY_HAND, place, origin)
        assert (place / BY_HAND.name).read_text() == "2026_06_30"

    def test_one_that_is_not_there(self, places):
        place, origin = places
        assert not external.provide(replace(FILE, name="some/c.csv"), place, origin)
        assert not external.provide(BY_HAND, place, None)
        assert not place.exists()

    @pytest.mark.parametrize("changed", [TEXT + b"3,4\n", TEXT[:-1], TEXT[:-2] + b"3\n"])
    def test_another_file_is_refused(self, places, changed):
        place, origin = places
        (origin / FILE.name).write_bytes(changed)
        with pytest.raises(UsageError) as told:
            external.provide(FILE, place, origin)
        for part in (FILE.name, SUM, hashlib.sha256(changed).hexdigest(), FILE.address):
            assert part in str(told.value)
        assert not (place / FILE.name).exists()

    def test_one_that_was_changed_in_its_place_is_refused(self, places):
        place, origin = places
        external.provide(FILE, place, origin)
        (place / FILE.name).write_bytes(b"other")
        with pytest.raises(UsageError, match="expected"):
            external.provide(FILE, place, None)


class TestFetching:
    @pytest.fixture
    def server(self, monkeypatch):
        """Give what stands for the network: address to bytes, or an error."""
        answers: dict[str, bytes] = {}

        class Downloader:
            def __call__(self, url: str, path: str, _pooch: object) -> None:
                if url not in answers:
                    raise ConnectionError(url)
                with open(path, "wb") as file:  # noqa: PTH123 - as pooch hands it over
                    file.write(answers[url])

        monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
        return answers

    def test_it_is_fetched_once(self, places, server):
        place, _ = places
        server[FILE.address] = TEXT
        assert external.provide(FILE, place, None)
        server.clear()
        assert external.provide(FILE, place, None)

    def test_a_wrong_answer_leaves_nothing(self, places, server):
        place, _ = places
        server[FILE.address] = b"<html>"
        with pytest.raises(UsageError, match=SUM):
            external.provide(FILE, place, None)
        assert not (place / FILE.name).exists()

    def test_without_a_network_there_is_a_way_out(self, places, server):
        place, _ = places
        with pytest.raises(UsageError, match="make external FROM=DIR"):
            external.provide(FILE, place, None)
        assert server == {}
