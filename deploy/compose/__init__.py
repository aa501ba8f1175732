"""The platform on one host: `docker-compose.yml` is written from the inventory by `python -m deploy.compose.build`."""
