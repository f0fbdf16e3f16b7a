"""The text: every number glued, every source real, every link alive, every named column read."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import duckdb
import polars as pl
import pytest
import yaml
from pybtex.database import parse_file  # type: ignore[import-untyped]

from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.site import DEFAULT_SOURCES, load_sites
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE, REASONS, REJECT_STAGES
from paper import bench, claims, seeds, validation
from paper.ablation import ABLATIONS
from support import PROJECT
from support.sites import HOUR, TinySite

ROOT = PROJECT
SOURCE = ROOT / "src/chameleon_usage"
GENERATED = {"metrics.md"}  # from the metric registry
PAGES = {
    path.name: path.read_text()
    for path in sorted((ROOT / "book").glob("*.md"))
    if path.name not in GENERATED
}
FACTS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "data/facts.yaml").read_text())
REFERENCES = parse_file(str(ROOT / "book/references.bib")).entries
PUBLISHED = ROOT / "../shared/real"

SITE = r"(?:chi_tacc|chi_uc|kvm_tacc|chi_edge)"
COUNT = (
    r"(?:total|reservable|committed|occupied|occupied_reservation|occupied_ondemand|active|"
    r"active_reservation|active_ondemand|available|idle|stopped|maintenance|unknown|"
    r"ondemand_capacity|available_ondemand)"
)
ERA = r"(?:2016_2017|2018_2019|2020_2021|2022_on)"
LEFT_OUT = "(?:" + "|".join(name.replace(" ", "_") for name in ABLATIONS) + ")"
RESULT = re.compile(
    rf"{SITE}_(?:{COUNT}_\d{{4}}(?:_legacy|_uncorrected)?|rejected_rows|rejected_total|"
    rf"error_{ERA}_{COUNT}_(?:legacy|uncorrected|corrected)|without_{LEFT_OUT}_{ERA}_{COUNT})"
    rf"|{SITE}_error_(?:site|host)_{ERA}_(?:legacy|uncorrected|corrected)_(?:low|mid|high)"
    r"|errors_(?:seeds|largest_(?:before_2022|2022_on)_corrected|(?:most|all)_added)"
    rf"|errors_largest_node_type_{SITE}"
    rf"|services_days_(?:{COUNT}_(?:baremetal|kvm)|chameleon)"
)
GLUE = re.compile(r"\{glue:\w+\}`([^`]*)`")
GLUE_TARGET = re.compile(r"notebooks/(\w+)\.ipynb::(\w+):([^`:]+)")
CITE = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
LINK = re.compile(r"\]\(#([\w-]+)\)")
TARGET = re.compile(r"^\(([\w-]+)\)=$|^:name: ([\w-]+)$", re.MULTILINE)


def glued() -> Iterator[tuple[str, str]]:
    """Each (page, glue role's content); a role shown as code in double backticks does not count."""
    for page, text in PAGES.items():
        shown = re.sub(r"``.*?``", "", re.sub(r"(?ms)^```.*?^```$", "", text))
        yield from ((page, role) for role in GLUE.findall(shown))


def prose(text: str) -> str:
    """A page's running text: no code, mathematics, roles, link targets or dates."""
    for pattern in (
        r"(?ms)^```.*?^```$",
        r"(?ms)^\$\$.*?^\$\$$",
        r"\{[\w:]+\}`[^`]*`",
        r"``.*?``",
        r"`[^`]*`",
        r"\$[^$\n]*\$",
        r"\]\([^)]*\)",
        r"\b\d{4}-\d{2}(?:-\d{2})?\b",
    ):
        text = re.sub(pattern, " ", text)
    return text


class TestSources:
    def test_every_citation_has_an_entry(self):
        cited = {
            (page, key.strip())
            for page, text in PAGES.items()
            for keys in CITE.findall(text)
            for key in keys.split(",")
        }
        assert cited
        assert {(page, key) for page, key in cited if key not in REFERENCES} == set()

    def test_every_entry_is_cited(self):
        cited = {
            key.strip()
            for text in PAGES.values()
            for keys in CITE.findall(text)
            for key in keys.split(",")
        }
        assert set(REFERENCES) - cited == set()

    @pytest.mark.parametrize("key", sorted(REFERENCES))
    def test_an_entry_can_be_found_by_a_reader(self, key: str):
        entry = REFERENCES[key]
        assert {"title", "year"} <= {name.lower() for name in entry.fields}
        assert entry.persons.get("author")
        assert {"url", "doi", "journal"} & {name.lower() for name in entry.fields}

    @pytest.mark.parametrize("name", sorted(FACTS))
    def test_a_fact_says_what_it_is_and_where_it_stands(self, name: str):
        fact = FACTS[name]
        assert set(fact) == {"value", "unit", "text", "source", "where", "how"}
        assert fact["how"] in claims.HOW
        assert type(fact["value"]) in (int, float)
        assert fact["source"] in REFERENCES
        assert all(fact[field].strip() for field in ("unit", "text", "where"))
        assert re.fullmatch(r"[a-z0-9_]+", name)


class TestNumbers:
    def test_every_glued_name_exists_and_takes_its_format(self):
        for page, role in glued():
            match = GLUE_TARGET.fullmatch(role)
            assert match, f"{page}: {role} is not notebooks/NAME.ipynb::KEY:FORMAT"
            notebook, key, form = match.groups()
            if notebook == "facts":
                name = key.removeprefix("facts_")
                assert name != key, f"{page}: {key} is not facts_NAME"
                assert name in FACTS, f"{page}: no fact {name}"
                assert format(FACTS[name]["value"], form)
            else:
                assert RESULT.fullmatch(key), f"{page}: {key} is not the name of a result"

    def test_no_fact_is_given_twice(self):
        names = re.findall(r"(?m)^(\w+):", (ROOT / "data/facts.yaml").read_text())
        assert len(names) == len(FACTS)

    def test_every_fact_is_used(self):
        used = {role.split("::")[1].split(":")[0] for _, role in glued()}
        assert {f"facts_{name}" for name in FACTS} - used == set()

    def test_facts_of_leases_are_those_of_the_carried_aggregates(self):
        real = ROOT / "data/real"
        files = pl.read_csv(real / "published_files.csv")
        robots = pl.read_csv(real / "published_robots.csv")
        figures = pl.read_csv(real / "published_leases.csv").filter(site="both sites")
        whole = pl.col("month") < "2017-12"

        def of(nodes: str, figure: str, era: str = "all") -> float:
            return round(figures.filter(era=era, nodes=nodes, figure=figure)["value"].item(), 3)

        tacc = files.filter(site="chi_tacc").select(pl.col("leases") + pl.col("robot_leases"))
        before, after = (
            files.filter(part).select(pl.col("completed").sum() / pl.col("leases").sum()).item()
            for part in (whole, ~whole)
        )
        era = "before 2017-12"
        expected = {
            "leases_published": files["leases"].sum() + robots["leases"].sum(),
            "leases_tacc": tacc.sum().item(),
            "leases_robot": robots["leases"].sum(),
            "leases_people": files["leases"].sum(),
            "robot_seconds": 60 * robots.filter(site="chi_tacc")["median_minutes"].item(),
            "leases_advance": of("non_gpu", "advance_share"),
            "leases_advance_gpu": of("gpu", "advance_share"),
            "leases_early": of("all", "released_early_share"),
            "leases_early_whole": of("all", "released_early_share", era),
            "leases_week": of("all", "seven_day_share"),
            "leases_longer": of("all", "longer_than_seven_days_share"),
            "leases_cancelled": of("all", "cancelled_before_start_share", era),
            "leases_completed": round(before, 3),
            "leases_active": round(1 - after, 3),
        }
        assert {name: FACTS[name]["value"] for name in expected} == expected
        recipes = {name for name in FACTS if FACTS[name]["how"] == "recipe"}
        assert {name for name in recipes if not name.startswith("machine_")} == {*expected}
        events = pl.read_csv(real / "published_machine_events.csv")
        for site, name in (("chi_tacc", ""), ("chi_uc", "_uc")):
            own = events.filter(site=site)
            assert own["events"].sum() == FACTS[f"machine_events{name}"]["value"]
            hosts = own.filter(event="CREATE")["hosts"].sum()
            assert hosts == FACTS[f"machine_hosts{name}"]["value"]

    @pytest.mark.parametrize("page", sorted(PAGES))
    def test_no_measured_number_is_typed(self, page: str):
        allowed = {
            "95%",
            "0.1",
            "0.2",
            "0.3",
            "3.11",
            "2.0",
            "4.0",
        }  # a setting, versions, licences
        typed = re.findall(r"\d+(?:\.\d+)?\s?%|\d{1,3}(?:,\d{3})+|\d+\.\d+", prose(PAGES[page]))
        assert set(typed) - allowed == set()

    def test_the_check_sees_a_typed_number(self):
        assert re.findall(r"\d{1,3}(?:,\d{3})+", prose("There were 1,300 projects on 2025-11-01."))


class TestLinks:
    def test_targets_are_unique(self):
        targets = [a or b for text in PAGES.values() for a, b in TARGET.findall(text)]
        assert len(targets) == len(set(targets))

    def test_no_target_is_called_like_a_page(self):
        stems = {name.removesuffix(".md") for name in PAGES}
        assert not stems & {a or b for text in PAGES.values() for a, b in TARGET.findall(text)}

    def test_every_link_has_a_target(self):
        targets = {a or b for text in PAGES.values() for a, b in TARGET.findall(text)}
        notebooks = "".join(path.read_text() for path in (ROOT / "notebooks").glob("*.py"))
        targets |= set(re.findall(r"(?m)^# \(([\w-]+)\)=$", notebooks))
        targets |= {a or b for a, b in TARGET.findall(claims.PAGE + bench.PAGE)}
        links = {(page, link) for page, text in PAGES.items() for link in LINK.findall(text)}
        assert links
        assert {(page, link) for page, link in links if link not in targets} == set()

    def test_links_within_the_book_go_by_target_not_by_file(self):
        # A page may be left out of a build; its targets are then reported, its file name is not.
        for page, text in PAGES.items():
            assert not re.findall(r"\]\((?!#|https?:)[^)]*\)", prose_links(text)), page


def prose_links(text: str) -> str:
    """A page without its code, where brackets and parentheses mean something else."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^(```|\$\$).*?^\1$", "", text))


class TestSourcesChapter:
    """What the chapter says is read is what the schemas read."""

    LISTED = re.compile(r"(?m)^`([a-z_]+\.[a-z_]+)`\n: ((?:.+\n)+)")
    """A definition: the table, and below it its columns; those after *if there* are optional."""

    def test_the_columns_of_every_table_that_is_read_are_told_and_no_others(self):
        told = {}
        for table, columns in self.LISTED.findall(PAGES["sources.md"] + "\n"):
            assert table not in told, f"{table} is listed twice"
            required, _, optional = " ".join(columns.split()).partition("*if there*")
            told[table] = tuple(re.findall(r"`([^`]+)`", part) for part in (required, optional))
        read = {name: (list(t.required), list(t.optional)) for name, t in RAW_TABLES.items()}
        gone = told.keys() - read.keys()
        assert not gone, f"book/sources.md lists {gone}, which models/raw.py does not declare"
        for name, columns in read.items():
            assert name in told, f"{name}: list its columns under *We read* of book/sources.md"
            assert tuple(map(sorted, told[name])) == tuple(map(sorted, columns)), name

    def test_a_source_in_no_default_order_is_said_to_be_in_none(self):
        text = " ".join(PAGES["sources.md"].split())
        sites = load_sites(ROOT / "data/sites.yaml", frozenset(ADAPTERS)).values()
        of_sites = [DEFAULT_SOURCES, *(site.sources for site in sites)]
        rules = [rule for sources in of_sites for rule in sources.values()]
        ordered = "doni.hardware" in {name for rule in rules for name in rule.order}
        assert "doni.hardware" in RAW_TABLES
        assert ("Doni is read, but stands in no default order" in text) != ordered, (
            f"doni.hardware stands in {'an' if ordered else 'no'} order; book/sources.md says else"
        )

    @pytest.mark.parametrize(("kind", "site"), [("bare metal", "chi_tacc"), ("KVM", "kvm_tacc")])
    def test_who_is_asked_for_total_is_told_in_order(self, kind, site):
        words = {
            "nova.compute_nodes": "Nova's hypervisors",
            "nova.services": "Nova's services",
            "inventory.node_intervals": "the public inventory",
            INDIRECT_EVIDENCE: "then indirect evidence",
        }
        sites = load_sites(ROOT / "data/sites.yaml", frozenset(ADAPTERS))
        order = [words.get(name, name) for name in sites[site].sources["total"].order]
        told = f"On {kind}: {', '.join(order)}."
        assert told in " ".join(PAGES["implementation.md"].split()), (
            f"book/implementation.md tells another order than data/sites.yaml: {told}"
        )

    def test_a_table_said_not_to_be_read_is_not_read(self):
        assert "doni.availability_window" not in RAW_TABLES

    def test_secrets_are_never_read(self):
        secret = {"user_data", "key_data", "environment", "websocket_token"}
        assert not secret & {column for table in RAW_TABLES.values() for column in table.columns}


def section(page: str, title: str) -> str:
    """Give the text of a page below one of its titles."""
    found = re.findall(rf"(?ms)^## {title}$(.*?)(?=^## |\Z)", PAGES[page])
    assert len(found) == 1, f"{page}: {title}"
    return str(found[0])


class TestExamples:
    """What the text shows runs as it stands."""

    def test_every_output_table_is_told(self):
        rows = re.findall(r"(?m)^\| (`.*?) \|", section("implementation.md", "The usage database"))
        told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        assert told == set(OUTPUTS), (
            f"book/implementation.md tells wrongly of {told ^ set(OUTPUTS)}"
        )

    def test_one_lease_is_counted_as_it_is_told(self):
        told = section("implementation.md", "One lease and one instance, file by file")
        rows = re.findall(r"(?m)^\| 2020-01-0(\d) \|(.*)\|$", told)
        assert [int(number) for number, _ in rows] == [2, 3, 4]
        site = TinySite()
        site.host("c1")
        times = {"created_at": 1 + 6 * HOUR, "deleted_at": 3 + 18 * HOUR}
        site.lease("L", 1 + 9 * HOUR, 4 + 9 * HOUR, ["b-c1"], **times)
        life = (1 + 12 * HOUR, 3 + 20 * HOUR)
        site.instance("I", "c1", *life, lease="L", active=1 + 13 * HOUR)
        counts = [
            *map(site.corrected, ("committed", "occupied", "active", "idle")),
            site.uncorrected("occupied"),
        ]
        for number, cells in rows:
            hours = [round(24 * series[int(number) - 1]) for series in counts]
            assert [cell.strip() for cell in cells.split("|")] == [f"{h}/24" for h in hours]
        lost = {
            ("corrected occupied", "outside its reservation", 2.0),
            ("corrected active", "outside occupied", 2.0),
        }
        assert set(site.outputs["rejects"].select("stage", "reason", "hours").iter_rows()) == lost
        assert all(f"`{word}`" in told for stage, reason, _ in lost for word in (stage, reason))

    def test_every_reason_of_a_row_s_way_is_a_reason(self):
        told = section("implementation.md", "One lease and one instance, file by file")
        lists = re.findall(r"(?m)^- \*Rejects\*.*\n(?:  .*\n)*", told)
        named = {name for part in lists for name in re.findall(r"`([^`]+)`", part)}
        assert named
        assert named - {"unreadable"} <= {*REASONS, *REJECT_STAGES}

    def test_the_files_and_functions_of_a_row_s_way_are_there(self):
        told = section("implementation.md", "One lease and one instance, file by file")
        files = re.findall(r"`([a-z_]+(?:/[a-z_]+)?\.py)`", told)
        assert {name for name in files if not (SOURCE / name).exists()} == set()
        way = re.findall(r"(?m)^### (\d+)\. `([^`]+)`.*\n\n`(?:\w+\.)?(\w+)`", told)
        assert [int(number) for number, _, _ in way] == list(range(1, len(way) + 1))
        assert 0 < len(way) == len(re.findall(r"(?m)^### ", told)) <= 14
        for _, file, name in way:
            assert re.search(rf"(?m)^(?:def|class) {name}\b", (SOURCE / file).read_text()), name
        code = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
        named = set(re.findall(r"`(?:\w+\.)?(_?[a-z]+(?:_[a-z]+)+)`", told))
        words = set(re.findall(r"\w+", code))
        assert "load_raw_inputs" in named
        assert named - words == set()

    def test_the_wide_table_has_the_columns_that_are_told(self):
        told = re.search(r"(?ms)^`time`.*?^$", PAGES["applicability.md"])
        assert told
        assert re.findall(r"`(\w+)`", told[0]) == list(OUTPUTS["usage_wide"].columns())

    def test_the_query_runs(self, tmp_path, monkeypatch):
        wide = OUTPUTS["usage_wide"].create_empty()
        day = pl.datetime(2024, 1, 1, time_unit="us", time_zone="UTC")
        numbers = {name: 1.0 for name, kind in wide.schema.items() if kind.is_numeric()}
        row = pl.select(
            time=day,
            site=pl.lit("a"),
            resource=pl.lit("nodes"),
            **{name: pl.lit(value) for name, value in numbers.items()},
        )
        (tmp_path / "output/combined").mkdir(parents=True)
        rows = [
            row,  # a Monday, in UTC
            row.with_columns(reservable=None, committed=pl.lit(5.0)),
            row.with_columns(reservable=pl.lit(5.0), committed=None),
            row.with_columns(site=pl.lit("b"), reservable=0.0, committed=0.0),
        ]
        pl.concat([r.select(wide.columns).cast(wide.schema) for r in rows]).write_parquet(
            tmp_path / "output/combined/usage_wide.parquet"
        )
        monkeypatch.chdir(tmp_path)
        query = re.findall(r"(?ms)^```sql\n(.*?)^```$", PAGES["applicability.md"])
        assert len(query) == 1
        with duckdb.connect() as session:
            session.sql("SET TimeZone = 'America/Chicago'")  # where it is Sunday
            found = session.sql(query[0]).fetchall()
        monday = datetime(2024, 1, 1)  # noqa: DTZ001 - the query gives a week in UTC without zone
        assert found == [("a", monday, 1.0), ("b", monday, None)]

    def test_the_example_of_a_site_is_a_site(self, tmp_path):
        example = re.findall(r"(?ms)^```yaml\n(.*?)^```$", PAGES["generalizability.md"])
        assert len(example) == 1
        (tmp_path / "sites.yaml").write_text(example[0])
        assert load_sites(tmp_path / "sites.yaml", frozenset(ADAPTERS))["my_cloud"].adapters


class TestAbstract:
    """The README has the abstract of the first page, with the numbers that the records give."""

    def numbers(self) -> dict[str, float]:
        """What the abstract may cite: published facts, and ranges over the recorded twins."""
        found = {f"facts_{name}": float(fact["value"]) for name, fact in FACTS.items()}
        recorded = seeds.read_record().filter(steered_by=seeds.ALL)
        ranges = validation.ranges(recorded)
        for row in ranges.filter(count_type="committed").iter_rows(named=True):
            for end in ("low", "mid", "high"):
                key = "{site}_{measure}_{era}_{collector_type}".format(**row)
                found[f"{key}_{end}"] = row[end]
        corrected = ranges.filter(measure="error_site", collector_type="corrected")
        for span, of in corrected.group_by(pl.col("era") == "2022_on"):
            name = "2022_on" if span[0] else "before_2022"
            found[f"errors_largest_{name}_corrected"] = of.select(pl.col("high").max()).item()
        by_type = ranges.filter(measure="error_node_type", collector_type="corrected")
        for (site,), of in by_type.group_by("site"):
            found[f"errors_largest_node_type_{site}"] = of.select(pl.col("high").max()).item()
        return found | {"errors_seeds": float(recorded["seed"].n_unique())}

    def test_the_readme_has_that_of_the_first_page(self):
        numbers = self.numbers()
        text = PAGES["index.md"].split("## Abstract\n")[1]
        text = text.split("<!-- no truth -->")[0]
        text = re.sub(r"<!-- /?truth -->|\s*\{cite\}`[^`]*`", "", text)
        for role in GLUE.findall(text):
            match = GLUE_TARGET.fullmatch(role)
            assert match
            shown = format(numbers[match[2]], match[3])
            text = text.replace(f"{{glue:text}}`{role}`", shown)
        readme = (ROOT / "README.md").read_text().split("## Abstract\n")[1].split("![")[0]
        assert " ".join(readme.split()) == " ".join(text.split()), text


def test_every_file_of_data_has_its_origin_told():
    told = set(re.findall(r"(?m)^\| `([^`]+)` \|", (ROOT / "data/README.md").read_text()))
    files = [path for place in ("data", "data/real") for path in (ROOT / place).iterdir()]
    carried = {path.relative_to(ROOT / "data").as_posix() for path in files if path.is_file()}
    made = {"twin/", "checksums.csv"}  # by `make data`; by `make record`, then carried
    assert (carried - {"README.md"}) | made == told


def test_what_is_known_of_the_twin_only_stands_between_truth_marks():
    """Where a book has no truth, that text is left out; a citation outside would be left bare."""
    for page, text in PAGES.items():
        outside = re.sub(r"(?s)<!-- truth -->.*?<!-- /truth -->", "", text)
        assert "validation.ipynb::" not in outside, page
        assert not re.search("<!-- /?truth -->", outside), page


@pytest.mark.parametrize("page", sorted({*PAGES, "../data/README.md", "../data/facts.yaml"}))
def test_a_page_speaks_of_its_subject_only(page: str):
    """No path of a machine, and no all-capitals name of a document that readers do not have."""
    text = (ROOT / "book" / page).read_text()
    assert not re.findall(r"(?<![\w.:/>)\]])/(?:[a-z]+)/[\w./-]*", text)
    known = {"BLAZAR", "CITATION", "DATA", "SELECT", "WHERE", "GROUP", "ORDER", "SITES", "README"}
    known |= {"CONFIG", "FORMAT", "USENIX", "FILTER", "EVENT", "PHYSICAL", "PROPERTIES", "ADAPTERS"}
    known |= {"ACCOUNT", "ALTER", "CHARACTER", "CREATE", "DATABASE", "GRANT", "IDENTIFIED"}
    known |= {"QUADS", "INSERT", "UPDATE", "DELETE", "DATETIME", "TIMESTAMP", "RESULT", "VCPUS"}
    known |= {"BUCKET", "FLAGS", "REPETO", "UNLOCK"}
    assert set(re.findall(r"\b[A-Z]{5,}\b", text)) <= known


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_has_one_title_and_lines_that_can_be_read(page: str):
    text = re.sub(r"(?ms)^```.*?^```$", "", PAGES[page])
    assert len(re.findall(r"(?m)^# ", text)) == 1
    text = prose(re.sub(r"(?m)^\|.*$", "", text))
    sentences = re.split(r"\n\s*\n|\n(?=- |\d\. |: )|(?<=[.?!:])\s+", text)
    longest = max(sentences, key=lambda sentence: len(sentence.split()))
    assert len(longest.split()) <= 45, longest


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published files are not at hand")
class TestFactsAgainstThePublishedFiles:
    def fact(self, name: str) -> float:
        return float(FACTS[name]["value"])

    def test_machine_events(self):
        events = pl.read_csv(PUBLISHED / "chameleon_machine_events/tacc_machine_events.csv")
        assert events.height == self.fact("machine_events")
        assert events["HOST_NAME (PHYSICAL)"].n_unique() == self.fact("machine_hosts")

    @pytest.mark.parametrize(
        ("name", "site", "day"),
        [
            ("inventory_tacc_before", "tacc", "2021-06-30"),
            ("inventory_tacc_after", "tacc", "2021-07-31"),
            ("inventory_uc_before", "uc", "2021-06-30"),
            ("inventory_uc_after", "uc", "2021-07-31"),
        ],
    )
    def test_inventory(self, name: str, site: str, day: str):
        nodes = pl.read_csv(
            PUBLISHED / "chameleon_inventory/reference_repository_node_intervals.csv",
            infer_schema_length=0,
        )
        to = pl.col("valid_to").str.head(10).fill_null("9999")
        listed = nodes.filter(
            pl.col("site") == site, pl.col("valid_from").str.head(10) <= day, to > day
        )
        assert listed["uid"].n_unique() == self.fact(name)

    @pytest.mark.parametrize("site", ["tacc", "uc"])
    def test_error_of_the_inventory(self, site):
        day = pl.selectors.exclude("site", "uid")
        nodes = (
            pl.read_csv(
                PUBLISHED / "chameleon_inventory/reference_repository_node_intervals.csv",
                columns=["site", "uid", "valid_from", "valid_to"],
                infer_schema_length=0,
            )
            .filter(pl.col("site") == site)
            .with_columns(day.str.head(10).str.to_date())
            .with_columns(pl.col("valid_to").fill_null(pl.date(2099, 1, 1)))
        )
        bins = (
            pl.read_csv(PUBLISHED / "chameleon_curves/digitised_30d_bins.csv")
            .filter(pl.col("site") == f"chi_{site}", pl.col("legacy_total").is_not_null())
            .select(pl.col("bin_start").str.head(10).str.to_date(), "legacy_total")
            .filter(pl.col("bin_start").is_between(pl.date(2016, 1, 1), pl.date(2020, 6, 30)))
        )
        bin_end = pl.col("bin_start") + pl.duration(days=30)
        listed = pl.min_horizontal("valid_to", bin_end) - pl.max_horizontal(
            "valid_from", "bin_start"
        )
        errors = (
            bins.join(nodes, how="cross")
            .group_by("bin_start", "legacy_total")
            .agg(mean=listed.dt.total_days().clip(lower_bound=0).sum() / 30)
            .select((pl.col("mean") / pl.col("legacy_total") - 1).abs())
            .to_series()
        )
        assert round(errors.mean(), 3) == self.fact(f"inventory_error_{site}")

    def test_curves(self):
        folder = PUBLISHED / "chameleon_curves"
        bins = pl.read_csv(folder / "digitised_30d_bins.csv").filter(pl.col("site") == "chi_tacc")
        kvm = pl.read_csv(folder / "digitised_kvm_30d_bins.csv")
        names = [name for name in FACTS if re.match(r"(tacc|kvm)_20\d\d_", name)]
        assert names
        for name in names:
            site, year, column = name.split("_", 2)
            frame = bins if site == "tacc" else kvm
            mean = frame.filter(pl.col("bin_start").str.starts_with(year))[column].mean()
            assert isinstance(mean, float)
            assert round(mean) == self.fact(name), name
