"""What the paper takes from the site configuration, and what a wrong entry is told."""

from __future__ import annotations

import pytest

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.site import load_sites
from paper.project import ROOT, site_colours, site_entries, site_names

CONFIG = """\
b: {name: The B, adapters: [nova_hosts], twin: true, colours: ["#000001", "#000002", "#000003"]}
a: {adapters: [nova_hosts], twin: true, legend: A in red, predecessor: old cloud, ablation: true}
c: {adapters: [nova_hosts], large: true}
"""


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(CONFIG)
    return str(path)


class TestEntries:
    def test_none_named_means_those_of_the_twin_in_alphabetical_order(self, config):
        assert list(site_entries("", config)) == ["a", "b"]
        assert list(site_entries("c a", config)) == ["c", "a"]

    def test_a_site_without_a_name_or_entry_is_called_by_its_key(self, config):
        assert site_names("b c d", config) == {"b": "The B", "c": "c", "d": "d"}

    def test_colours_are_those_declared(self, config):
        assert site_colours("", config) == {"b": ("#000001", "#000002", "#000003")}

    def test_they_are_those_that_the_program_reads(self, config):
        sites = load_sites(ROOT / config, frozenset(ADAPTERS))
        assert list(sites["b"].colours) == ["#000001", "#000002", "#000003"]
        assert (sites["a"].legend, sites["a"].predecessor) == ("A in red", "old cloud")
        marks = {key: (site.twin, site.large, site.ablation) for key, site in sites.items()}
        assert marks == {
            "a": (True, False, True),
            "b": (True, False, False),
            "c": (False, True, False),
        }


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("twin: maybe", "'twin' must be true or false, not 'maybe'"),
        ("large: 1", "'large' must be true or false, not 1"),
        ("ablation: [a]", "'ablation' must be true or false"),
        ("legend: 3", "'legend' must be words, not 3"),
        ("predecessor: [old]", "'predecessor' must be words"),
        ('colours: ["#000000"]', "'colours' must be three of \"#RRGGBB\", dark first"),
        ('colours: ["#000000", "#111111", red]', "'colours' must be three of"),
        ('colours: "#000000"', "'colours' must be three of"),
    ],
)
def test_a_wrong_value_is_told_with_file_site_key_and_the_way_out(tmp_path, entry, words):
    path = tmp_path / "mine.yaml"
    path.write_text(f"my_site: {{adapters: [nova_hosts], {entry}}}")
    with pytest.raises(UsageError) as error:
        load_sites(path, frozenset(ADAPTERS))
    assert f"{path}: site my_site: {words}" in str(error.value)
