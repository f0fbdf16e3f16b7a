"""Intervals in, segments out: who held what, when.

- ``observed`` closes what is open, and says what each host was and how much a piece holds.
- ``uncorrected`` takes each row at its word.
- ``corrected`` reconstructs; begin there. Its steps are in ``inference`` (what no row tells),
  ``hosts`` (when a host existed), ``holders`` (what held it, and how much of it) and ``usable``
  (whether it could be used).
- ``projects`` divides what is held among projects, on request.
- ``reading`` is what both give back: segments, rejects, source support.
"""
