"""Build a data set from an installed package: read, run its examples apart, choose what is held out, write rows."""
