"""Decide, with evidence, whether to fine-tune a Gemma model, retrieve, do both, or neither.

This package is what a user imports: configuration, data-set tools, wire models and the client. It starts no server by
itself and imports no machine-learning library; the work happens in `services`, behind HTTP.
"""
