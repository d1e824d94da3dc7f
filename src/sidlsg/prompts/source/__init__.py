"""Source tables: which files there are, how they are cut, and how their rows are read."""
