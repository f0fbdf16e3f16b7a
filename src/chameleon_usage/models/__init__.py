"""What the frames hold: each column, type and word, said once.

- ``raw``: the input tables, a declaration each; ``site``: the site configuration.
- ``metrics``: every count type and resource, with its formula.
- ``vocabulary``: the words that columns hold, reasons of rejects among them.
- ``stages``: the frames between the stages; ``outputs``: the output tables.
- ``frames``: how a frame is brought to a schema.
"""
