"""Near duplicates: which texts are alike, found by MinHash and proven by exact Jaccard similarity."""
