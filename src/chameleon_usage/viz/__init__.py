"""Figures: each function takes frames of the output contracts and gives a chart; nothing is read.

- ``base``, ``palette`` and ``render``: what all figures share, colours, and how a chart is written.
- A module for each kind of figure; ``tables`` prepares what several of them draw.
"""
