"""Channels, reasons, cells and viewers: pure values, no I/O."""
