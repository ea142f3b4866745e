"""Floor 2, Byzantine agreement: Simplex, its replicas, and the committee as clients see it."""
