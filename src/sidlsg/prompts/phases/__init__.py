"""The tasks of curation: each reads files of a work folder and writes some, wherever it runs."""
