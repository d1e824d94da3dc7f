"""Notices of runs that failed or were rejected, sent to a webhook."""
