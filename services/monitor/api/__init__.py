"""The monitor's routes, for the gateway."""
