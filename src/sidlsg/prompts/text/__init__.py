"""Text rules: cleaning, comparing, counting and judging the texts of a batch."""
