"""Code that the services share and that no user imports."""
