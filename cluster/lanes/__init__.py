"""Lanes: shared memory between the agents of one machine and whoever asks them, in microseconds."""
