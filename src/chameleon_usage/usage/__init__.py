"""Segments -> the usage tables, in the order in which data pass.

- ``window``: the time to cover, its buckets, and what the records can speak of in it;
- ``buckets``: segments to unit-seconds per bucket, exact, and to time-weighted means;
- ``states``: means to every count type, by the formulas of ``models.metrics``;
- ``tables``: the usage tables by resource, node type and host, as their contracts say;
- ``comparison``: the collectors side by side; ``causes``: why they differ;
- ``coverage``: how much of the count each source bears out;
- ``leadtime``: leases to the lead time tables;
- ``ablation``: the corrected count with one correction left out at a time, on request.
"""
