"""Segments in, output tables out.

- ``buckets``: the window and its buckets; segments to unit-seconds per bucket, exact, to
  time-weighted means, and by the formulas of ``models.metrics`` to every count type.
- ``tables``: usage by resource, node type and host, the collectors side by side, lead times;
  ``long`` puts those of millions of rows together.
- ``coverage``: how much of the count each source supports; ``causes``: why the collectors differ.
"""
