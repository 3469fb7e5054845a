"""Documents that were the most costly ones that a search found, or that somebody made to be: each role's, by name.

Ids are written `{person}`, `{household}`, `{run}` and `{filter}`.
"""

from collections.abc import Callable, Mapping

from gql_server.domain.viewer import Role

LINKS = "students { student { % } } contacts { student { % } }"
BOTH = "students { student { % } contact { % } } contacts { student { % } contact { % } }"
HOMES = "households { household { members { person { % } } } }"
ALL = (
    "id sourceId firstName lastName active contactPoints { kind value } "
    "preferences { contactPoint method value on chosen } optOuts { address method reasons evidence } "
    "enrollments(activeOnly: false) { grade school { name } } districtAssignments(activeOnly: false) { title }"
)
RUN = (
    "id results { contactPoint reason updated } exclusions(first: 100) { edges { node { because person { % } "
    "household { name phone } } } } samples(first: 25) { person { % } cells { reason } }"
)


def doubled(levels: int, body: str, last: str, on: str = "Person", name: str = "F") -> str:
    """Return fragments F0, F1, ... (or of another name) of which each has the next one in place of every `%`."""
    texts = [
        f"fragment {name}{n} on {on} {{ {body.replace(chr(37), f'...{name}{n + 1}')} }}"
        for n in range(levels)
    ]
    return " ".join([*texts, f"fragment {name}{levels} on {on} {{ {last} }}"])


def many(times: int, field: Callable[[int], str]) -> str:
    """Return a field many times, by aliases; a field is written by its number."""
    return " ".join(f"a{n}: {field(n)}" for n in range(times))


def page(name: str, arguments: str, inner: str) -> str:
    return f"{name}({arguments}) {{ edges {{ node {{ {inner} }} }} pageInfo {{ endCursor }} }}"


def _newest(number: int) -> str:
    return page("history", "first: 1", "revision")


def _people(filter_: str, first: int, inner: str = "id", times: int = 15) -> str:
    pages = many(times, lambda n: page("people", f"filter: {{ {filter_} }}, first: {first}", "...P"))
    return f"{{ {pages} }} fragment P on Person {{ {inner} }}"


GUARDIAN: Mapping[str, str] = {
    "links doubled, sixteen roots": "{ person(id: \"{person}\") { ...F0 } "
    + many(15, lambda n: "person(id: \"{person}\") { ...F0 }") + " } " + doubled(4, LINKS, "id"),
    "links doubled, one root": "{ viewer { person { ...F0 } } } " + doubled(4, LINKS, "id firstName"),
    "both ends of links doubled": "{ viewer { person { ...F0 } } } " + doubled(3, BOTH, ALL),
    "homes within homes": "{ viewer { person { ...F0 } } } " + doubled(2, HOMES, "id firstName"),
    "everything in every home": "{ viewer { person { ...F0 } } } "
    + doubled(1, f"{ALL} {HOMES} {LINKS}", ALL),
    "histories": "{ viewer { person { "
    + many(15, lambda n: page("history", "first: 100", "at kinds actor turnedOn { reason } turnedOff { reason }"))
    + " } } }",
    "preferences again and again": "{ viewer { person { " + many(15, lambda n: f"preferences {{ {'on chosen value'} }}")
    + " students { student { " + ALL + " } } } } }",
    "searches": _people('search: "a b c d e f g h"', 100, ALL),
    "searches that find nobody": _people('search: "zz"', 1),
    "a school's people": _people('schoolId: "{school}", grade: "09"', 100),
    "audiences": _people("audience: STUDENT_CONTACTS", 100),
    "students without a messenger": _people('withoutMessengerContact: true', 100),
    "homes": f"{{ {many(15, lambda n: page('households', 'first: 100', 'name phone members { person { id } }'))} }}",
    "opt-outs": "{ " + many(15, lambda n: 'person(id: "{person}") { optOuts { address } }') + " }",
    "opt-outs of one person": '{ person(id: "{person}") { '
    + many(8, lambda n: "optOuts { address method reasons }")
    + " } }",
    "filters that they may not see": "{ "
    + many(4, lambda n: 'node(id: "filter_1") { ... on SavedFilter { id matches } }')
    + " }",
    "schools": "{ " + many(15, lambda n: "schools { name }") + " }",
}  # fmt: skip
VENDOR: Mapping[str, str] = {
    "a page with everything": f"{{ {page('people', 'first: 1000', ALL)} }}",
    "a page with everything, and of those tied": f"{{ {page('people', 'first: 1000', '...F0')} }} "
    + doubled(1, f"{ALL} {BOTH} {HOMES}", ALL),
    "pages": _people("", 1_000, ALL),
    "homes of a page": f"{{ {page('households', 'first: 1000', '...F0')} }} fragment F0 on Household "
    + f"{{ name phone preferences {{ on chosen }} members(activeOnly: false) {{ person {{ {ALL} }} }} }}",
    "preferences of homes": f"{{ {page('households', 'first: 1000', '...F0')} }} fragment F0 on Household "
    + f"{{ {many(14, lambda n: 'preferences { contactPoint method value on chosen }')} }}",
    "two pages of much": _people("", 1_000, "id active preferences { on chosen } optOuts { address }", 2),
    "histories of a page": f"{{ {page('people', 'first: 1000', page('history', 'first: 1000', 'at actor'))} }}",
    "the newest changes of a page": f"{{ {page('people', 'first: 490', many(4, _newest))} }}",
    "the newest changes of a page, many times": f"{{ {page('people', 'first: 1000', many(15, _newest))} }}",
    "links doubled": "{ "
    + many(8, lambda n: 'person(id: "{person}") { ...F0 }')
    + " } "
    + doubled(3, LINKS, ALL),
    "searches that find nobody": _people(
        'search: "zz", withoutMessengerContact: true, audience: STUDENTS', 1
    ),
    "students without a messenger": _people("withoutMessengerContact: true", 1_000),
    "audiences": _people("audience: STUDENT_CONTACTS", 1_000),
}
ADMIN: Mapping[str, str] = {
    "filters' matches": f"{{ {many(15, lambda n: 'savedFilters { name matches }')} }}",
    "options of batches": "{ "
    + many(15, lambda n: 'batchOptions(mode: "STUDENT_CONTACTS") { population cells { reachable because } }')
    + " }",
    "runs with all": f"{{ {page('batchRuns', 'first: 100', '...F0')} }} "
    + f"fragment F0 on BatchRun {{ {RUN.replace('%', '...F1')} }} fragment F1 on Person {{ {ALL} }}",
    "exclusions": '{ batchRun(id: "{run}") { '
    + many(8, lambda n: page("exclusions", "first: 100", "because rule person { id active }"))
    + " } }",
    "runs behind runs": "{ " + page("batchRuns", "first: 100", "...F0") + " } "
    + doubled(5, "queuedBehind { % } reverts { % } revertedBy { % }", "id results { updated }", "BatchRun"),
    "a mutation's payload": 'mutation { setPreferences(input: { personId: "{person}", cells: [] }) '
    + "{ person { ...F0 } } } " + doubled(3, BOTH, ALL),
    "a subscription's event": 'subscription { batchRun(id: "{run}") { ...F0 } } '
    + f"fragment F0 on BatchRun {{ {RUN.replace('%', '...P0')} }} " + doubled(1, BOTH, ALL, name="P"),
    "searches that find nobody": VENDOR["searches that find nobody"],
    "links doubled": VENDOR["links doubled"],
}  # fmt: skip
DOCUMENTS: Mapping[Role, Mapping[str, str]] = {
    Role.GUARDIAN: GUARDIAN,
    Role.VENDOR: VENDOR,
    Role.ADMIN: ADMIN,
}
