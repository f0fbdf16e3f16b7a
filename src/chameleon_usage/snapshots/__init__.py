"""What dated snapshots of a site tell together.

- ``record`` adds a dump to a site's directory and keeps what it supersedes.
- ``history`` reads a dump together with what the earlier ones knew.
"""
