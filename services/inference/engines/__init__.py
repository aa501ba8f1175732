"""Engines that run a model in this process. The only place of the service that imports torch and transformers."""
