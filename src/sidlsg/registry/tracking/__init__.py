"""Live tracking: a training run's numbers and pictures go to MLflow while it goes on."""

import os

# MLflow reads this when it is imported, and every module of this package comes through here first.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
