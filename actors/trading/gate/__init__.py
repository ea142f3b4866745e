"""The pre-trade gate: controls modelled on SEC rule 15c3-5, in one compiled check that fails closed."""
