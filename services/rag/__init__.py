"""Retrieval: build indexes of passages, search them, and answer with the passages in the prompt."""
