"""The whole pipeline on one machine: compiled for a cluster, or run here under `kfp.local`."""
