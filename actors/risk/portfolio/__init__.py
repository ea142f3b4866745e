"""Portfolio: allocations of balanced or least risk."""
