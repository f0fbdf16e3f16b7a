"""What changed since an earlier run, and nothing else: the same tables, byte for byte.

``fingerprints`` tells of each bucket whether anything is summed up in it that was not before;
``update`` takes the largest tables' rows of all other buckets from the earlier run, and keeps what
the next one needs.
"""
