"""Load on an OpenAI-compatible endpoint: when requests are due, sending them, and what their times say."""
