"""Liquidity: days to sell and what selling costs."""
