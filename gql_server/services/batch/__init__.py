"""Batch runs: a request is validated and recorded, planned, applied in chunks, and counted (D11-D21)."""
