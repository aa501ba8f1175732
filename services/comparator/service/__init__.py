"""Use cases: running a comparison (in the child) and reading one (in the API)."""
