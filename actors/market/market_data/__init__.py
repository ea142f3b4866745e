"""The market data agent: owner of the snapshots."""
