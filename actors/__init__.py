"""Floor 4, the agents. One room per agent: a thin Ray shell, a pure brain, later its compiled kernels."""
