"""How many connections of the pool may be used for writes."""


def write_slot_count(connections: int) -> int:
    """Return how many of a pool's connections may write at the same time: half of them, at least one."""
    return max(1, connections - max(1, connections // 2))
