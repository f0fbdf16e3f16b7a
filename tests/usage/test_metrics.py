"""The metric registry: each count type has what it needs, and the algebra adds up by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from chameleon_usage.models import metrics
from chameleon_usage.models.metrics import HOST_BY_HOST, MEASURED, METRICS, PARTITION, Metric
from chameleon_usage.models.stages import Segments
from chameleon_usage.viz import base, palette
from paper.metrics import page
from support.algebra import BY_HAND, CORRECTED_ALONE, WITHIN


def lacks(metric: Metric, partition: tuple[str, ...] = PARTITION) -> list[str]:
    """Say what a count type of the registry lacks to be computed, checked, drawn and explained."""
    told = {*MEASURED, *HOST_BY_HOST, *metrics.DERIVED}
    missing = [
        f"{metric.name}: no {field}; fill it in in models/metrics.py"
        for field in ("label", "definition", "unit")
        if not getattr(metric, field)
    ]
    if metric.definition and not metric.definition.endswith("."):
        missing.append(f"{metric.name}: its definition is no sentence: no full stop")
    if metric.formula:
        missing += [
            f"{metric.name}: its formula speaks of {name}, which is no quantity of the registry"
            for name in sorted(metrics.names_in(metric.formula) - told)
        ]
        if metric.name not in BY_HAND:
            missing.append(f"{metric.name}: no formula by hand; add it to tests/support/algebra.py")
    elif metric.name not in Segments.create_empty()["quantity_type"].dtype.categories.to_list():
        missing.append(f"{metric.name}: no formula, and segments do not tell it")
    if metric.within and metric.within not in METRICS:
        missing.append(f"{metric.name}: lies within {metric.within}, which is no count type")
    if metric.within != (by_hand := WITHIN.get(metric.name, "")):
        missing.append(
            f"{metric.name}: lies within {metric.within or 'none'} by models/metrics.py, within "
            f"{by_hand or 'none'} by WITHIN of tests/support/algebra.py"
        )
    if metric.name in partition and metric.name not in palette.STATES:
        missing.append(f"{metric.name}: in the partition, but without a colour in palette.STATES")
    if metric.name in palette.STATES and metric.name not in partition:
        missing.append(f"{metric.name}: drawn as a part of the total, but not in PARTITION")
    return missing


WHOLE = Metric("spare", "Spare", "The node is kept.", "reservable - committed")


class TestRegistry:
    @pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
    def test_a_count_type_lacks_nothing(self, metric):
        missing = lacks(metric)
        assert not missing, "\n".join(missing)

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"label": ""}, "spare: no label"),
            ({"definition": ""}, "spare: no definition"),
            ({"definition": "Kept"}, "no full stop"),
            ({"unit": ""}, "spare: no unit"),
            ({"formula": "reservable - held"}, "speaks of held"),
            ({"formula": ""}, "no formula, and segments do not tell it"),
            ({"within": "pool"}, "lies within pool"),
            ({"within": "total"}, "within none by WITHIN"),
            ({}, "no formula by hand"),
        ],
    )
    def test_what_a_new_count_type_lacks_is_said(self, changed, said):
        assert any(said in one for one in lacks(replace(WHOLE, **changed)))

    def test_a_new_part_of_the_total_needs_a_colour(self):
        assert any("without a colour" in one for one in lacks(WHOLE, (*PARTITION, "spare")))

    def test_what_is_counted_by_hand_is_in_the_registry(self):
        gone = {*BY_HAND, *WITHIN, *CORRECTED_ALONE} - set(METRICS)
        assert not gone, f"{gone}: in tests/support/algebra.py, but not in models/metrics.py"

    @pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
    def test_the_page_of_metrics_defines_it(self, metric):
        row = f"| `{metric.name}` | {metric.definition} |"
        assert row in page(), f"{metric.name}: paper/metrics.py leaves it out of the page"

    def test_parts_of_the_total_are_count_types_with_labels_in_figures(self):
        assert set(PARTITION) <= set(METRICS)
        assert set(PARTITION) <= set(base.PARTS)

    def test_a_formula_speaks_of_what_comes_before_it(self):
        known = {*MEASURED, *HOST_BY_HOST}
        for name, metric in metrics.DERIVED.items():
            assert metrics.names_in(metric.formula) <= known, name
            known.add(name)

    def test_the_ways_to_say_how_full_a_site_is_speak_of_count_types(self):
        assert metrics.names_in(metrics.USE_IS_KNOWN, *metrics.USE.values()) <= set(METRICS)


class TestAlgebra:
    """Whatever was measured: the formulas are those by hand, and the parts make the total."""

    @pytest.fixture
    def values(self) -> pl.DataFrame:
        names = [*MEASURED, *HOST_BY_HOST]
        rows = pl.DataFrame(np.random.default_rng(1).integers(0, 100, (50, len(names))), names)
        total = sum(
            pl.col(name)
            for name in ("reservable", "maintenance_out_of_pool", "unknown", "ondemand_capacity")
        )
        rows = rows.with_columns(total=total)
        for name, metric in metrics.DERIVED.items():
            rows = rows.with_columns(metric.expression.alias(name))
        return rows

    @pytest.mark.parametrize("name", BY_HAND)
    def test_a_formula_is_the_one_by_hand(self, values, name):
        assert values[name].equals(values.select(BY_HAND[name]).to_series())

    def test_the_parts_make_the_total(self, values):
        assert values.select(pl.sum_horizontal(PARTITION)).to_series().equals(values["total"])

    def test_the_hierarchy_is_the_designs(self):
        differ = {m.name: m.within for m in METRICS.values() if m.within}.items() ^ WITHIN.items()
        assert not differ, f"WITHIN of tests/support/algebra.py and models/metrics.py: {differ}"

    @pytest.mark.parametrize("name", METRICS)
    def test_only_the_corrected_collector_reads_host_by_host(self, name):
        assert (metrics.needs(name, "uncorrected") is None) == (name in CORRECTED_ALONE), (
            f"{name}: by its formula it is {'' if name not in CORRECTED_ALONE else 'not '}the "
            "corrected collector's alone; correct CORRECTED_ALONE of tests/support/algebra.py"
        )
        assert metrics.needs(name, "corrected")
