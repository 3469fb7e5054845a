"""Reads: a GraphQL operation becomes one SQL statement, which returns the finished JSON."""
