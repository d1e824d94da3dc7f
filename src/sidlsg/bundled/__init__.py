"""The bundled domains: image worlds with an exact ground truth, small enough to learn on two cores."""
