"""Output tables to where they are looked at; target.py chooses by scheme or suffix.

sql.py: databases. duckdb_file.py: one file with views. openmetrics.py: text for Prometheus.
package.py: CSV or JSON with a description.
"""
