"""Live tracking: a training's metrics and sample grids are logged to MLflow during the training."""
