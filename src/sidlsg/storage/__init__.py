"""URIs, stores, caches, whole files and the records that stages exchange."""
