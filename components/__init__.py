"""Thin Kubeflow components, one folder per stage."""
