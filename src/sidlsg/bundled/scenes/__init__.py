"""The scenes domain: two figures and their relation, at 64×64 pixels."""
