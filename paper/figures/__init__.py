"""Figures that only the paper has: distance to the truth, ablation, the real record."""
