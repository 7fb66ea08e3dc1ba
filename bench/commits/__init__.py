"""Two commits beside each other: a tree of each with its own build, a process for each, fed in turn."""
