"""One voter of the committee as an agent of the swarm."""
