"""Thin Kubeflow components, one folder a stage."""
