"""Benchmarks: real work, all sides in one run, percentiles, and an artefact that the published page is made from."""
