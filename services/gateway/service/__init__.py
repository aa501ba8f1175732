"""Use cases of the gateway, one module a resource."""
