"""The rules of a comparison: which items count, what each arm and pair comes to, and the verdict. Pure."""
