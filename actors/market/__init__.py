"""The market's agents: market data today, oracle and analyst later."""
