"""SQL as a value: parameters are found, fragments cannot clash, and what is quoted stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gql_server.db.statements import bind
from gql_server.domain.sql import AMBIENT, Sql, bare, location_in, numbered, parameters, slots

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
# Pieces in which a colon or a brace means nothing.
QUOTED = st.sampled_from(
    [
        "':a'",
        "'it''s :a {b}'",
        '":a {b}"',
        "-- :a {b}\n",
        "/* :a\n{b} */",
        "1::int",
        "{ }",
        "a : b",
        r"E'\' :a {b}'",
        r"e'it''s\\'",
        "$$it's :a {b}$$",
        "$q$ :a $$ {b} $q$",
        "-- :a\r",
    ]
)


@given(names=st.lists(NAMES, max_size=6), quoted=st.lists(QUOTED, min_size=6, max_size=6))
def test_each_parameter_gets_one_number_in_the_order_of_first_use(
    names: list[str], quoted: list[str]
) -> None:
    """A parameter used twice is sent once, and nothing in quotes or comments is taken for one."""
    text = " ".join(f"{piece} :{name}" for name, piece in zip(names, quoted, strict=False))
    expected = list(dict.fromkeys(names))
    assert parameters(text) == expected
    written, order = numbered(text)
    assert list(order) == expected
    assert written == " ".join(
        f"{piece} ${expected.index(name) + 1}" for name, piece in zip(names, quoted, strict=False)
    )


@given(names=st.lists(NAMES, unique=True, min_size=1, max_size=4), value=st.integers())
def test_filling_slots_keeps_every_fragments_values_apart(names: list[str], value: int) -> None:
    """Fragments that use one name for different values both get their own, at any depth."""
    inner = [Sql("x = :v", {"v": (value, name)}) for name in names]
    outer = Sql(" and ".join(f"{{{name}}}" for name in names) + " and y = :v", {"v": "own"})
    nested = Sql("not ({whole}) or z = :v", {"v": "outermost"}).fill(
        whole=outer.fill(**dict(zip(names, inner, strict=True)))
    )
    _, values = bind(nested)
    assert values == [*[(value, name) for name in names], "own", "outermost"]


@pytest.mark.parametrize("name", sorted(AMBIENT))
def test_what_the_host_gives_keeps_its_name_in_every_fragment(name: str) -> None:
    """The district and the day are one value throughout a statement, however deep a fragment stands (D6)."""
    fragment = Sql(f"a = :{name} and b = :b", {"b": 1})
    filled = Sql(f"c = :{name} and {{part}}").fill(part=fragment)
    assert bind(filled, **{name: 7}) == ("c = $1 and a = $1 and b = $2", [7, 1])


def test_a_fragment_with_slots_of_its_own_is_filled_first() -> None:
    """A slot inside a fragment is not a slot of the statement: it stays visible, and is refused when bound."""
    filled = Sql("{part}").fill(part=Sql("{other}"))
    assert slots(filled.text) == ["other"]


@pytest.mark.parametrize("text", ["select {part}", "select '{a}', {part}"])
def test_an_unfilled_slot_is_refused(text: str) -> None:
    """A statement with a slot left over is never sent; the error names the slot."""
    with pytest.raises(ValueError, match="unfilled slots: part"):
        numbered(text)


def test_a_slot_without_a_fragment_is_refused() -> None:
    """Filling some slots and forgetting one is an error at once."""
    with pytest.raises(KeyError):
        Sql("{a} {b}").fill(a=Sql("1"))


def test_a_parameter_without_a_value_is_refused() -> None:
    """Binding asks for every parameter."""
    with pytest.raises(KeyError):
        bind(Sql("select :a, :b", {"a": 1}))


def test_having_adds_values_and_leaves_the_original_alone() -> None:
    """An `Sql` is a value: completing one changes no other."""
    original = Sql("select :a, :b", {"a": 1})
    assert bind(original.having(b=2)) == ("select $1, $2", [1, 2])
    assert dict(original.args) == {"a": 1}


@given(text=st.text())
def test_any_text_is_scanned_without_an_error(text: str) -> None:
    """Text from a plug-in, however odd, gives names or none, and text without them is left as it is."""
    if not slots(text):
        written, names = numbered(text)
        assert names or written == text


def test_a_place_in_a_statement_is_found_in_its_fragment() -> None:
    """PostgreSQL tells where in the whole statement an error is; the author is told line and column of their part,
    whatever its parameters are called there."""
    fragment = "c.x = :value -- :no parameter\n  and c.y = :value and c.z > :other"
    whole = numbered(Sql("select :first from c where ({part}) and c.q").fill(part=Sql(fragment)).text)[0]
    places = [location_in(fragment, whole, whole.index(text) + 1) for text in ("c.x", "c.y", "c.z", "$3")]
    assert places == [(1, 1), (2, 7), (2, 24), (2, 30)]
    assert location_in(fragment, whole, whole.index("c.q") + 1) is None
    assert location_in(fragment, "select 1", 1) is None


def test_bare_sql_holds_neither_literals_nor_comments() -> None:
    """What is quoted or commented out is blanked, letter by letter; the rest keeps its place."""
    text = "a = 'x;--' /* ; */ and \"b;\" = :c::text -- ;"
    assert len(bare(text)) == len(text)
    assert bare(text).split() == ["a", "=", "and", "=", ":c::text"]
