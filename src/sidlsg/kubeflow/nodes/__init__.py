"""The `distil` stage on several nodes of a cluster, as a TrainJob of Kubeflow Trainer."""
