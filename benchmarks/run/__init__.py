"""How a benchmark is trained, measured and recorded: the protocol, the run and its folder."""
