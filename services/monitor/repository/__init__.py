"""All SQL of the monitor, a file a resource."""
