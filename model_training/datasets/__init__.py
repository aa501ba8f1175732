"""Data sets: formats, validation, splitting, leak checks, and building one from an installed package. No torch."""
