"""The suites, one file each. A file that is dropped in here, or into MT_SUITES_DIR, and defines `SUITE` is one more."""
