"""Floor 3, the shared mind: messages, market snapshots and the hub."""
