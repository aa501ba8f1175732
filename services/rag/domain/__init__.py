"""The rules of retrieval. Pure: no files, no database, no engine."""
