"""The steps from raw tables to the paper: what each makes, and by which command."""

from __future__ import annotations

from dataclasses import dataclass

SAME = "none"


@dataclass(frozen=True)
class Step:
    """A command that makes something of the paper.

    Attributes:
        makes: what, in words.
        command: to call it alone; it makes what it needs, too. SITE stands for the key of a site.
        output: where its results are.
        changed: a file that makes `make` run the step again; empty: it always runs.
        tolerance: by how much its results may differ from ours.
    """

    makes: str
    command: str
    output: str
    changed: str = ""
    tolerance: str = SAME


NOTEBOOKS = {
    "site": Step(
        "a site: states, collectors, lead times, audit",
        "make book/notebooks/SITE.ipynb",
        "output/plots/SITE_*",
        "notebooks/site.py",
    ),
    "cross_site": Step(
        "all sites: sum, and side by side",
        "make book/notebooks/cross_site.ipynb",
        "output/plots/cross_site_*",
        "notebooks/cross_site.py",
    ),
    "validation": Step(
        "validation against the twin, ablation",
        "make book/notebooks/validation.ipynb",
        "output/plots/validation.*",
        "paper/ablation.py",
    ),
    "validation_appendix": Step(
        "the same in full, and with more damage",
        "make book/notebooks/validation_appendix.ipynb",
        "output/plots/damage.*",
        "notebooks/validation_appendix.py",
    ),
    "real_record": Step(
        "the real record",
        "make book/notebooks/real_record.ipynb",
        "output/plots/real_*",
        "notebooks/real_record.py",
    ),
    "real_appendix": Step(
        "the real record, beside the twin",
        "make book/notebooks/real_appendix.ipynb",
        "output/plots/twin_against_reality.csv",
        "notebooks/real_appendix.py",
    ),
    "facts": Step(
        "the published facts of `data/facts.yaml`",
        "make book/notebooks/facts.ipynb",
        "book/notebooks/facts.ipynb",
        "notebooks/facts.py",
    ),
}
"""Those of the notebooks, by name."""

RECORDS = {
    "seeds": Step("errors over several seeds", "python -m paper seeds", "data/seeds.csv"),
    "errors": Step("errors with twice the damage", "python -m paper errors", "data/errors.csv"),
    "thresholds": Step(
        "errors with other thresholds", "python -m paper thresholds", "data/thresholds.csv"
    ),
    "halves": Step(
        "twins calibrated to half of the years",
        "python -m chameleon_twin.halves",
        "data/halves.csv",
    ),
}
"""Those that take many twins: the project carries what they found, and no target makes it."""

STEPS = {
    "data": Step(
        "simulated tables, and their truth", "make data", "data/twin/SITE/", "data/calibration.yaml"
    ),
    "run": Step(
        "output tables: usage, lead times, audit",
        "make run",
        "output/SITE/*.parquet",
        "src/chameleon_usage/pipeline.py",
    ),
    **NOTEBOOKS,
    "book": Step("the paper", "make book", "book/_build/html/", "book/_toc.yml"),
    "pdf": Step("the paper as one file", "make pdf", "book/_build/pdf/", "paper/pdf.typ"),
    "crate": Step(
        "outputs, with what made them",
        "make crate",
        "build/crate/",
        tolerance="what it says of the environment",
    ),
    **RECORDS,
}
