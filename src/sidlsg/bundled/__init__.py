"""The captioned-shapes domain: an image world with an exact ground truth, small enough to learn on two cores."""
