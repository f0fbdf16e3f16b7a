"""Pure interval arithmetic; it knows no table, no site and no cloud.

- ``arithmetic``: union, intersection, sums and integrals of intervals on data frames, and the
  law that no hour is lost, asserted in every run.
- ``keys``: a key and a time packed into one integer, which it sorts and searches by.
- ``sorting``: sorting and ranking integers; ``cutting``: children in pieces, block by block.
"""
