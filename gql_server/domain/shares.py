"""How the connections to the database are shared."""


def writers(connections: int) -> int:
    """Return how many of a pool's connections may write at a time: half of them, rounded up for a small pool."""
    return max(1, connections - max(1, connections // 2))
