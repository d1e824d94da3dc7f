"""Servers of one machine: MLflow on PostgreSQL, its artifacts on an S3 server, for a small team and for the tests."""
