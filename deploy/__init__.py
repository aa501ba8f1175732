"""What the platform is run with elsewhere: files for Prometheus, Alertmanager and Grafana, and the code that writes them."""
