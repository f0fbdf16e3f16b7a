"""Everything that passes between the project and the world outside.

In: grants.py (what is read, and the SQL that permits it), databases.py (addresses, connections),
snapshot.py and columns.py (rows of one moment -> Parquet), privacy.py, extract.py (all of these).
Out: export/; traces.py (a site's history as a public trace, made of events.py). Places: files.py
(whole or not at all), stores.py (such as S3). check.py holds what was written to its contracts.
"""
