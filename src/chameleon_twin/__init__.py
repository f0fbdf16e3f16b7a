"""A twin of the Chameleon testbed: simulated sites whose truth is known.

The twin simulates what happened (hosts, leases, allocations, instances, maintenance), writes the
tables as the services would have, lets a legacy collector read them, and only then lets history
decay. It shares no code with the pipeline, so that its truth is evidence and not an echo.
"""
