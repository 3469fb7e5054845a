"""The batch: a request is checked and recorded, planned, applied in chunks, and reported (D11-D21)."""
