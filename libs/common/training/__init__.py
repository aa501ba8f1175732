"""What is known about a training job before it runs: its plan, and what it will take."""
