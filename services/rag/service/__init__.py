"""The use cases of retrieval: indexes, answers, measuring."""
