"""Metrics of the factory in Prometheus' format."""
