"""Floor 2, Byzantine agreement. Nothing is built here yet; no calculation of today depends on a vote."""
