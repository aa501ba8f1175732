"""One file per outside library or format; each is imported only by the function that needs it."""
