"""``swarm bench accuracy``: sampling methods against plain Monte Carlo, over a panel fixed in advance."""
