"""Floor 1, the ground: Ray runtime, sessions, supervision, the error tree every floor raises from."""
