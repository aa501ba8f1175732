"""Cuts files, folders and installed packages into passages for retrieval: code by its syntax, documents by headings.

Needs `pip install 'model-training[data]'`.
"""
