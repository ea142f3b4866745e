"""Market data: sources, validation with quarantine, immutable snapshots with a content hash, and their store."""
