"""The model registry: students registered, gated and promoted in MLflow."""

import os

# MLflow reads this when it is imported, and every module of this package comes through here first.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
