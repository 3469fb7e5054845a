"""Documents that mean the same have one normal form, and no others."""

from graphql import GraphQLError, Lexer, Source, TokenKind
from hypothesis import example, given
from hypothesis import strategies as st

from gql_server.reads.normal_form import NormalForm, normal_form

PIECES = [
    *("{", "}", "(", ")", "[", "]", ":", "=", "@", "$", "!", "|", "&", "...", "..", ".", '"', '""', '"""', "\\"),
    *('\\"""', '"a"', "query", "mutation", "fragment", "on", "A", "a1", "_", "0", "-1", "1.5e+3", "01", "1a", "x"),
    *("#", "# c", "\n", "\r\n", "\r", " ", "\t", ",", "\ufeff", "é", "\ud800", "'", "%"),
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


def lexed(text: str) -> list[tuple[str, int]] | None:
    """Return the tokens of graphql-core, each with its place; None where it finds an error."""
    source, tokens = Source(text), []
    lexer = Lexer(source)
    try:
        while (token := lexer.advance()).kind is not TokenKind.EOF:
            tokens.append((text[token.start : token.end], token.start))
    except GraphQLError:
        return None
    return tokens


@given(TEXTS)
@example('"""\\""""""')
@example('"\\ud800"')
def test_tokens_are_those_of_the_parser(text: str) -> None:
    """Where the parser's lexer finds tokens, the normal form has them, but for names; else it may not be shared."""
    form, tokens = normal_form(text, 1_000), lexed(text)
    if form is None:
        return  # it is parsed by itself, whatever it is
    if tokens is None:
        # A string with a wrong escape is a token all the same: no valid document holds it.
        assert '"' in text
        return
    names = [name for name in form.names if name is not None]
    starts = form.starts
    assert len(tokens) == len(starts) + len(names)
    kept = [(value, start) for value, start in tokens if start in starts]
    assert form.text == " ".join(value for value, _ in kept)
    assert [value for value, start in tokens if start not in starts] == names


def test_what_does_not_change_the_meaning_is_left_out() -> None:
    """Layout, comments and the names of operations make no difference; values and names of fragments do."""
    plain = normal_form('query ($a: Int = 1) { x(a: $a, b: "c d") { ...F } } fragment F on T { query }', 100)
    same = normal_form('query Q($a:Int=1){x(a:$a b:"c d"){...F}}#e\nfragment F on T{query}', 100)
    assert plain is not None
    assert same is not None
    assert (plain.text, plain.names, same.names) == (same.text, (None,), ("Q",))
    for other in ("{ x }", "query { x }", "query { y }", '{ x(a: "b") }', '{ x(a: "b ") }', "{ x(a: 1) }"):
        forms = [normal_form(text, 100) for text in ("query A { x }", other)]
        assert (forms[0] == forms[1]) == (other == "query A { x }")


def test_names_of_operations_are_found_where_they_are() -> None:
    """Only an operation has its name left out: not a fragment that is called `query`, nor a field, nor a value."""
    found = normal_form(
        '"d" query query { query } fragment query on A { mutation mutation } subscription B { a }', 99
    )
    assert found is not None
    assert found.names == ("query", "B")
    assert "fragment query on A { mutation mutation }" in found.text
    anonymous = normal_form("{ query } mutation { a }", 99)
    assert anonymous == NormalForm("{ query } mutation { a }", (None, None))
    assert not anonymous.has_valid_names


def test_comments_count_as_the_parser_counts_them() -> None:
    """A document of more tokens and comments than are allowed has no normal form, and so meets the parser's limit."""
    assert normal_form("{ a }" + "#\n" * 7, 10) is not None
    assert normal_form("{ a }" + "#\n" * 8, 10) is None
