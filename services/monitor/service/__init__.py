"""Use cases of the monitor."""
