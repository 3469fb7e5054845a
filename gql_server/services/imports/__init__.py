"""Imports: what another system knows of a district, brought in whole or not at all (D30)."""
