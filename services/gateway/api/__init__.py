"""The public routes, one module a resource."""
