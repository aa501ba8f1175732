"""One folder a process; services never import each other."""
