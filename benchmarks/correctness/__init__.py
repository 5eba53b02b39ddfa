"""Cases in which the tools in use give wrong numbers: theirs, ours and the truth, each measured when asked for."""
