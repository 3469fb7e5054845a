"""Selection set → one SQL statement → JSON."""
