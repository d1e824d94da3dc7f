"""Foreign formats into this project's: single-file checkpoints, and the released pickles."""
