"""What builds the paper, `python -m paper ...`, from output tables, notebooks and pages.

run         execute a notebook for the book, cell by cell in one `shell`; `context` gives its
            templates their words
lab         the notebooks for JupyterLab, filled while they run; `jupyterlab/` are its settings
period      output tables cut to a period
words/      the sentences of the pages, as templates; `say` leaves out what was not found
findings    the numbers behind the sentences that open a page of results
tables      what the notebooks tabulate; `eras` names the eras
ablation    the corrected count with one correction left out
seeds       errors on twins of several seeds, down to hosts and leases (`by_unit`): recorded apart,
            as are `errors` with more of a damage and `thresholds` at other levels; by `twins`
figures/    figures that only the paper has
truth       the twin's truth, day by day; `validation`: how far each collector is from it
kept        what was measured, until what it was measured from changes
record      the published curves of the real testbed beside our count
published   the published machine events and leases beside ours; `leases`: what leases say of users
calibration the figures that the twin is calibrated to; `outcome`: what came out, measured
external    the public files that data/external.yaml lists, fetched and held to their checksums
html, metrics, checksums, pdf   the book, page of metrics, recorded sums, the paper as PDF
claims      where each claim, figure and table comes from: a page, and the README's table; the
            commands are those of `steps`, the times those of `seconds`
bench       what the pipeline needs of time and memory: a page from what `make bench` recorded
crate       the outputs with their provenance, as an RO-Crate
project     the source tree, its sites, and whether its data are simulated
"""
