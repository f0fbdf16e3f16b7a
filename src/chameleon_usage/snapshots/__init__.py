"""What dated snapshots and audit tables of a site tell together.

- ``record`` adds a dump to a site's directory and keeps what it supersedes.
- ``audit`` reads which states of rows the triggers of an audit table kept.
- ``history`` reads a dump together with what the earlier ones and the audit tables knew.
"""
