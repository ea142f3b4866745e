"""Correlation: shrunk, exponentially weighted, and whether it has changed."""
