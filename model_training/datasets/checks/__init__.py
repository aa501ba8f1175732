"""The checks of data sets, and the run that makes them all in one pass. Start at `run.check_dataset`."""
