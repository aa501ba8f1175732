"""Keeping a platform: backup and restore, clean-up, checks of the machine, and what goes to whoever helps."""
