"""The outputs as an RO-Crate: whole, true, and the same bytes each time."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zipfile

import polars as pl
import pytest

from chameleon_usage.errors import UsageError
from chameleon_usage.models.outputs import OUTPUTS
from paper import crate
from support import PROJECT
from support.command import called


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def build(tmp_path):
    """Outputs of one site, which is a link as where not all is of one choice, and its raw table."""
    site = tmp_path / "of_one" / "chi_uc"
    plots = tmp_path / "output" / "plots"
    raw = tmp_path / "twin" / "chi_uc"
    for folder in (site, plots, raw / "truth"):
        folder.mkdir(parents=True)
    pl.DataFrame({"value": [1.0]}).write_parquet(site / "usage_timeline.parquet")
    (site / "notes.txt").write_text("no output")
    (plots / "a.csv").write_text("nodes\n1\n")
    (plots / "a.svg").write_text("<svg/>")
    (tmp_path / "output" / "chi_uc").symlink_to(site)
    pl.DataFrame({"id": [1]}).write_parquet(raw / "nova.instances.parquet")
    pl.DataFrame({"id": [1]}).write_parquet(raw / "truth" / "intervals.parquet")
    (raw / "manifest.json").write_text('{"kind": "twin"}')
    return tmp_path


def run(build, out="crate.zip", data="twin"):
    """Pack the build; give the archive and what it says, by id."""
    places = ["--output", str(build / "output"), "--data-dir", str(build / data)]
    crate.main([str(build / out), "chi_uc", *places], standalone_mode=False)
    archive = zipfile.ZipFile(build / out)
    told = json.loads(archive.read(crate.METADATA))
    entities = {entity["@id"]: entity for entity in told["@graph"]}
    assert len(entities) == len(told["@graph"]), "an id stands twice"
    return archive, told, entities


def references(value):
    """Give every id that is referred to below a value."""
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            yield value["@id"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_it_has_the_shape_of_an_ro_crate(build):
    _, told, entities = run(build)
    assert told["@context"] == "https://w3id.org/ro/crate/1.2/context"
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    assert root["@type"] == "Dataset"
    assert all(root[key] for key in ("name", "description", "datePublished", "license", "author"))
    assert dt.date.fromisoformat(root["datePublished"])
    known = {*entities, crate.PROFILE}
    assert {name for e in told["@graph"] for name in references(e)} <= known
    assert all(e["@type"] and e.get("name") for n, e in entities.items() if n != descriptor["@id"])


def test_the_archive_holds_what_it_describes_and_nothing_else(build):
    archive, _, entities = run(build)
    names = ["chi_uc/usage_timeline.parquet", "plots/a.csv", "plots/a.svg"]
    assert archive.namelist() == ["ro-crate-metadata.json", *names]
    assert archive.read(crate.METADATA) == (build / "output" / crate.METADATA).read_bytes()
    assert [part["@id"] for part in entities["./"]["hasPart"]] == names
    for name in names:
        entity, held = entities[name], archive.read(name)
        assert entity["@type"] == "File"
        assert entity["sha256"] == hashlib.sha256(held).hexdigest()
        assert entity["contentSize"] == str(len(held))
        assert entity["encodingFormat"]
    table = entities[names[0]]
    assert table["variableMeasured"] == list(OUTPUTS["usage_timeline"].columns())


def test_it_tells_what_was_made_of_what_by_which_program_and_command(build):
    _, _, entities = run(build)
    made, drawn, program = (entities[f"#{name}"] for name in ("tables", "figures", "program"))
    assert made["@type"] == drawn["@type"] == "CreateAction"
    raw = {"manifest.json", "nova.instances.parquet", "truth/intervals.parquet"}
    assert {e["@id"] for e in made["object"]} == {f"#input/chi_uc/{name}" for name in raw}
    for name in raw:
        assert entities[f"#input/chi_uc/{name}"]["sha256"] == sha256(build / "twin/chi_uc" / name)
    assert made["result"] == drawn["object"] == [{"@id": "chi_uc/usage_timeline.parquet"}]
    assert {e["@id"] for e in drawn["result"]} == {"plots/a.csv", "plots/a.svg"}
    assert made["instrument"] == drawn["instrument"] == {"@id": "#program"}
    choice = f'DATA={build / "twin"} SITES="chi_uc" CONFIG=data/sites.yaml BUCKET=1d'
    assert made["description"] == f"make run {choice}"
    assert program["runtimePlatform"].startswith("Python 3.")
    assert entities["#lock"]["sha256"] == sha256(PROJECT / "requirements.txt")
    assert program["sha256"] == crate.source_sum()


def test_the_same_build_gives_the_same_bytes(build):
    run(build)
    run(build, "again.zip")
    assert (build / "crate.zip").read_bytes() == (build / "again.zip").read_bytes()
    with zipfile.ZipFile(build / "crate.zip") as archive:
        kinds = {(i.date_time, i.compress_type, i.external_attr >> 16) for i in archive.infolist()}
    assert kinds == {((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED, 0o644)}


def test_the_twin_is_licensed_and_the_data_of_others_are_not(build):
    _, _, entities = run(build)
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert entities["./"]["description"].startswith("Simulated.")
    (build / "twin" / "chi_uc" / "manifest.json").unlink()
    _, _, entities = run(build, "real.zip")
    assert entities[entities["./"]["license"]["@id"]]["name"].startswith("not stated")
    assert "Simulated" not in entities["./"]["description"]


def test_without_outputs_there_is_nothing_to_pack(build):
    (build / "empty").mkdir()
    places = ["--output", str(build / "empty"), "--data-dir", str(build / "twin")]
    with pytest.raises(UsageError, match="no outputs; run 'make notebooks' first"):
        crate.main([str(build / "x.zip"), "chi_uc", *places], standalone_mode=False)


class TestSources:
    """The version of the program, with Git and without."""

    @pytest.fixture
    def tree(self, tmp_path, monkeypatch):
        for name in ("Makefile", "src/a.py", "paper/words/b.j2", "data/c.csv"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        monkeypatch.setattr(crate, "ROOT", tmp_path)
        return tmp_path

    @pytest.mark.parametrize("name", ["Makefile", "src/a.py", "paper/words/b.j2", "data/c.csv"])
    def test_a_change_of_any_source_shows(self, tree, name):
        before = crate.source_sum()
        assert crate.source_sum() == before
        (tree / name).write_text("changed")
        assert crate.source_sum() != before

    def test_what_python_keeps_does_not_show(self, tree):
        before = crate.source_sum()
        (tree / "src" / "__pycache__").mkdir()
        (tree / "src" / "__pycache__" / "a.pyc").write_text("compiled")
        assert crate.source_sum() == before

    def test_the_commit_is_told_only_of_an_unchanged_checkout_of_its_own(self, tree):
        assert crate.commit() is None

        def git(*words):
            names = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
            called("git", "-C", tree, *names, *words)

        git("init")
        git("add", ".")
        git("commit", "-m", "all")
        assert len(crate.commit()) == 40
        (tree / "Makefile").write_text("changed")
        assert crate.commit() is None

    def test_a_copy_inside_another_repository_has_no_commit(self, tree, monkeypatch):
        called("git", "init", tree)
        monkeypatch.setattr(crate, "ROOT", tree / "src")
        assert crate.commit() is None
