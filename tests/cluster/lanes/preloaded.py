"""Imported by the server that forks the tests' processes, before it forks the first."""

from tests.cluster.lanes.sides import compile_all

compile_all()
