"""What several tests use: little sites, servers, oracles."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""Root of the source tree."""
