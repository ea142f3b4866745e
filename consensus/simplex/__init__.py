"""Simplex: agreement among 3f+1 replicas of which f may be faulty in any way. ``core.py`` opens with the protocol."""
