"""Dashboards, for Grafana."""
