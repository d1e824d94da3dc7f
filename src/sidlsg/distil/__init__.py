"""Score identity Distillation with Long-Short Guidance: the maths, the two updates, and the loop around them."""
