"""Projects and users: left out, or under a pseudonym that only the key can tell."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_usage.cli import cli
from chameleon_usage.errors import UsageError
from chameleon_usage.io.privacy import PERSONAL, Privacy, read_key
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS, PROJECT_TABLES
from chameleon_usage.models.raw import RAW_TABLES
from support.sites import PROJECT, TEN_DAYS, lively_site

KEY = b"a key of the tests, of 32 bytes."
OTHER = b"another key of the tests, longer"
KEYED, OMITTED = Privacy(KEY), Privacy()
PROJECT_ID, USER_ID = "0d5c6c8e1f3b4a5d8e7f6a5b4c3d2e1f", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"
SPEC = json.dumps(
    {
        "nova_object.name": "RequestSpec",
        "nova_object.data": {
            "project_id": PROJECT_ID,
            "user_id": USER_ID,
            "scheduler_hints": {"reservation": ["b0d2c7be-7f5c-4a4e-9c39-6a3f6a1f4d11"]},
        },
    }
)


class TestColumns:
    def test_equal_stays_equal_and_different_stays_different(self):
        frame = pl.DataFrame({"id": [1, 2, 3], "project_id": ["p", "q", "p"], "node": ["p"] * 3})
        hidden = KEYED.protect(frame)
        first, second, third = hidden["project_id"]
        assert first == third != second
        assert not {first, second} & {"p", "q"}
        assert hidden.drop("project_id").equals(frame.drop("project_id"))

    @given(st.lists(st.one_of(st.none(), st.text()), max_size=20))
    def test_a_pseudonym_tells_nothing_but_equality(self, names):
        frame = pl.DataFrame({"user_id": names}, schema={"user_id": pl.String})
        hidden = KEYED.protect(frame)["user_id"].to_list()
        assert [value is None for value in hidden] == [name is None for name in names]
        assert len(set(hidden)) == len(set(names))
        assert {len(value) for value in hidden if value is not None} <= {32}

    def test_another_key_gives_other_pseudonyms(self):
        assert KEYED.pseudonym("p") != Privacy(OTHER).pseudonym("p")
        assert KEYED.pseudonym("p") == Privacy(KEY).pseudonym("p")

    def test_left_out_is_null(self):
        frame = pl.DataFrame({"project_id": ["p", None], "status": ["ACTIVE", "ERROR"]})
        hidden = OMITTED.protect(frame)
        assert hidden["project_id"].to_list() == [None, None]
        assert hidden["status"].equals(frame["status"])
        assert hidden.schema == frame.schema

    def test_the_key_is_not_shown(self):
        assert KEY.decode() not in repr(KEYED)


class TestDocuments:
    @pytest.mark.parametrize("privacy", [KEYED, OMITTED])
    def test_a_document_stays_one_and_names_nobody(self, privacy):
        hidden = privacy.protect(pl.DataFrame({"spec": [SPEC, None]}))["spec"]
        assert PROJECT_ID not in hidden[0]
        assert USER_ID not in hidden[0]
        told = json.loads(hidden[0])["nova_object.data"]
        assert told["project_id"] == privacy.pseudonym(PROJECT_ID)
        assert told["user_id"] == privacy.pseudonym(USER_ID)
        assert told["scheduler_hints"] == json.loads(SPEC)["nova_object.data"]["scheduler_hints"]
        assert hidden[1] is None

    def test_a_project_is_the_same_in_a_column_and_in_a_document(self):
        row = pl.DataFrame({"project_id": [PROJECT_ID], "data": [SPEC]})
        hidden = KEYED.protect(row)
        assert hidden["project_id"][0] in hidden["data"][0]


class TestOutputs:
    """What is published of a site does not hang on who its users are."""

    def test_pseudonyms_change_no_byte_of_any_output(self, lively_raw, lively_outputs, tmp_path):
        shutil.copytree(lively_raw / "chi_tacc", tmp_path / "hidden" / "chi_tacc")
        changed = 0
        for path in (tmp_path / "hidden").rglob("*.parquet"):
            frame = pl.read_parquet(path)
            hidden = KEYED.protect(frame)
            changed += not hidden.equals(frame)
            hidden.write_parquet(path)
        assert changed
        call = ["run", "--config", PROJECT / "data/sites.yaml", "--data-dir", tmp_path / "hidden"]
        cli([*map(str, call), "--output", str(tmp_path / "out"), *TEN_DAYS], standalone_mode=False)
        plain, hidden = (
            {path.name: path.read_bytes() for path in (out / "chi_tacc").iterdir()}
            for out in (lively_outputs(), tmp_path / "out")
        )
        assert hidden == plain

    def test_projects_are_named_only_in_the_tables_of_projects_and_users_nowhere(self):
        named = {
            table: [name for name in contract.column_names() if "project" in name or "user" in name]
            for table, contract in OUTPUTS.items()
        }
        told = {table: columns for table, columns in named.items() if columns}
        assert told == {table: ["project_id"] for table in PROJECT_TABLES}
        assert PROJECT_TABLES <= OPTIONAL_OUTPUTS

    def test_no_other_column_that_is_read_names_a_project_or_a_user(self):
        read = {column for table in RAW_TABLES.values() for column in table.columns}
        named = {name for name in read if "project" in name or "user" in name or "tenant" in name}
        assert named <= set(PERSONAL)


class TestKey:
    def test_from_a_variable_or_a_file(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PRIVACY_KEY", KEY.decode())
        (tmp_path / "key").write_bytes(KEY + b"\n")
        assert read_key("${PRIVACY_KEY}") == read_key(str(tmp_path / "key")) == KEY

    @pytest.mark.parametrize("key", ["", "short", "x" * 65])
    def test_of_a_length_that_does_not_do(self, monkeypatch, key):
        monkeypatch.setenv("PRIVACY_KEY", key)
        with pytest.raises(UsageError, match="PRIVACY_KEY holds a key of") as told:
            read_key("${PRIVACY_KEY}")
        assert not key or key not in str(told.value)

    def test_that_is_not_there(self, tmp_path):
        with pytest.raises(UsageError, match="openssl rand"):
            read_key(str(tmp_path / "none"))


@pytest.mark.slow
class TestExtraction:
    """Nothing that is written by `extract` names a project or a user."""

    @pytest.fixture
    def extract(self, usage, mariadb, tmp_path, monkeypatch):
        site = lively_site()
        site.add("nova_api.request_specs", instance_uuid="i-spec", spec=SPEC)
        folder = site.write(tmp_path / "raw")
        mariadb.fill(folder)
        config = PROJECT / "data" / "sites.yaml"
        monkeypatch.setenv("CHI_TACC_DB_URI", mariadb.uri("root", ""))
        monkeypatch.setenv("PRIVACY_KEY", KEY.decode())

        def run(*args):
            said = usage(
                *("extract", "--config", config, "--site", "chi_tacc"),
                *("--data-dir", tmp_path / "data", *args),
            )
            assert said.status == 0, said.err
            assert KEY.decode() not in said.out + said.err
            return tmp_path / "data" / "chi_tacc"

        return run

    @pytest.mark.parametrize("how", ["${PRIVACY_KEY}", "omit"])
    def test_no_file_holds_an_identifier(self, extract, how, tmp_path):
        written = extract("--privacy", how)
        for path in written.glob("*.parquet"):
            frame = pl.read_parquet(path)
            text = frame.write_csv()
            assert PROJECT_ID not in text
            assert USER_ID not in text
            if "project_id" in frame.columns:
                privacy = OMITTED if how == "omit" else KEYED
                raw = pl.read_parquet(tmp_path / "raw" / "chi_tacc" / path.name)["project_id"]
                hidden = {name and privacy.pseudonym(name) for name in raw}
                assert set(frame["project_id"]) == hidden
        manifest = (written / "manifest.json").read_text()
        assert KEY.decode() not in manifest
        told = json.loads(manifest)["projects_and_users"]
        assert told == ("left out" if how == "omit" else "pseudonymised")

    def test_unless_asked_for_they_stay(self, extract):
        leases = pl.read_parquet(extract() / "blazar.leases.parquet")
        assert "p" in set(leases["project_id"])
