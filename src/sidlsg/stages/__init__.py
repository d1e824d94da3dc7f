"""The stages: each reads records and writes one, and joins the rooms below it."""
