"""Base models on disk and the one place that renders prompts. Importing this package loads no machine-learning library."""
