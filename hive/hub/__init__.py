"""The coordination hub: registry, load balancing, gathering and merging. Only ``agent.py`` is an actor."""
