"""The cache that is bounded in bytes: the sum holds whatever comes, and what was used last stays."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.domain.sql import Sql, filled_texts, numbered, numbered_texts

STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put", "discard"]), st.integers(0, 5), st.integers(0, 12)), max_size=60
)


@given(steps=STEPS)
def test_it_keeps_what_was_used_last_within_its_bytes(steps: list[tuple[str, int, int]]) -> None:
    """After any steps the cache holds what a plain list ordered by use holds, and never more than its bytes."""
    cache: ByteBoundedCache[int, int] = ByteBoundedCache(20)
    naive: OrderedDict[int, tuple[int, int]] = OrderedDict()
    for value, (step, key, size) in enumerate(steps):
        if step == "get":
            expected = naive.get(key)
            if expected:
                naive.move_to_end(key)
            assert cache.get(key) == (expected[0] if expected else None)
        elif step == "discard":
            cache.discard(key)
            naive.pop(key, None)
        else:
            cache.put(key, value, size)
            naive.pop(key, None)
            naive[key] = (value, size)
            while sum(size for _, size in naive.values()) > 20:
                naive.popitem(last=False)
        assert len(cache) == len(naive)
        assert cache.bytes == sum(size for _, size in naive.values()) <= 20


def test_a_value_larger_than_the_cache_leaves_the_others_alone() -> None:
    """What can never fit is not kept, and pushes nothing out."""
    cache: ByteBoundedCache[str, int] = ByteBoundedCache(10)
    cache.put("small", 1, 6)
    cache.put("large", 2, 11)
    assert cache.get("small") == 1
    assert cache.get("large") is None


def test_numbered_texts_are_kept_within_bytes() -> None:
    """Statements of any size and number fill the cache of numbered texts up to its bound, and no further."""
    for n in range(12):
        numbered(f"select :a /* {n} {'x' * 500_000} */")
        assert numbered_texts.bytes <= numbered_texts.max_bytes
    assert 0 < len(numbered_texts) < 12


def test_filled_texts_are_kept_within_bytes() -> None:
    """A statement is composed once, and the statements composed last fill the cache up to its bound."""
    for n in range(12):
        filled = Sql("select {part}").fill(part=Sql(f":a /* {n} {'x' * 500_000} */", {"a": n}))
        assert filled.args == {"part__a": n}
        assert Sql("select {part}").fill(part=Sql(f":a /* {n} {'x' * 500_000} */")).text is filled.text
        assert filled_texts.bytes <= filled_texts.max_bytes
    assert 0 < len(filled_texts) < 12
