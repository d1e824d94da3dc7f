"""Pipeline runs on a Kubeflow Pipelines server: started, watched and scheduled."""
