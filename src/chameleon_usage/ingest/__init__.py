"""Raw tables in, intervals out.

- ``loader`` reads files and validates them; ``registry`` names the adapters, runs them and asserts
  that each row is kept, rejected or set aside.
- One adapter a source: ``nova_hosts``, ``nova`` (instances, with ``nova_moves``), ``blazar_hosts``,
  ``blazar`` (allocations), ``blazar_leases``, ``zun``, ``legacy``, ``inventory``, ``status``; of
  files of other makers ``published``, ``traces``, ``trace_instances``. ``base`` holds the steps
  that they share.
"""
