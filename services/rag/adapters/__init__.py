"""One file an outside library: the vector engine, the embedder, the inference service."""
