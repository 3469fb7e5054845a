"""Imports of a district's data from another system, each in one transaction (D30)."""
