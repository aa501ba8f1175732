"""Compares arms over the same items and says which to deploy, how sure that is, and why."""
