"""Rules of monitoring, free of databases and networks."""
