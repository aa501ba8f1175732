"""What pages show, worked out without a page: pure functions from what the gateway says to what is drawn."""
