"""Stress: historical windows, hypothetical moves, factor shocks."""
