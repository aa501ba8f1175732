"""Files of rows: JSONL, JSON, CSV and Parquet, read one batch at a time. What a row means is not known here."""
