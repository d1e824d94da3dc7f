"""The shapes domain: one figure on a background, at 32×32 pixels."""
