"""Serves a copied model over KServe's protocols, and checks what a server of it answers."""
