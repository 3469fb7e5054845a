"""Pure values and rules without I/O: channels, reasons, cells, viewers, limits."""
