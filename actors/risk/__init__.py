"""The risk agents: value at risk, stress, correlation, liquidity and portfolio."""
