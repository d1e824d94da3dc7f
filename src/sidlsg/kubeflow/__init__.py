"""What each stage is given on a cluster: one TOML file, read without Kubeflow Pipelines."""
