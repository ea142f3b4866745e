"""A committee in virtual time: every run is a function of its seed, faults and liars included."""
