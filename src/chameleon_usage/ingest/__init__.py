"""Raw tables in, intervals out.

- ``loader`` reads files and validates them; ``registry`` names the adapters, runs them and asserts
  that each row is kept, rejected or set aside.
- One adapter a service: ``nova``, ``blazar``, ``zun``, ``legacy``, ``inventory``, ``status``; of
  files of other makers ``published``, ``traces``, ``trace_instances``. ``base`` holds the steps
  that they share.
"""
