"""The `encode` stage, and where training gets its text states from."""
