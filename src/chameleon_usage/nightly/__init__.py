"""What changed since an earlier run, and nothing else: the same tables, byte for byte.

``hosts`` reads again the hosts of which a row changed, ``days`` makes the buckets anew that this
touches, ``kept`` is what a run keeps for the next one, ``update`` puts it all together.
"""
