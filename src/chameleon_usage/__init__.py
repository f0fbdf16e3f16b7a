"""Usage history of an OpenStack testbed, reconstructed from the databases of its services.

A folder for each stage, in the order in which data pass: ``ingest`` (raw tables -> intervals, with
``snapshots`` of earlier dumps), ``reconstruct`` (intervals -> segments, by the arithmetic of
``intervals``), ``usage`` (segments -> output tables). ``pipeline`` calls them,
``runs`` all of them for a site. A large one is counted in ``ranges`` of hosts, and read in
``shards`` where it is too large for memory, by one of the ``engines``; ``nightly`` takes over what
an earlier run has made, ``stages`` saves and loads what lies between. ``io`` extracts, exports and
checks, ``viz`` draws, ``cli`` is the operator's face; all of them speak the words of ``models``.
"""
