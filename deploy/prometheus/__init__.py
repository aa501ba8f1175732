"""Metrics and alert rules, for Prometheus and Alertmanager."""
