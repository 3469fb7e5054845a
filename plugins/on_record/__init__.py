"""A batch leaves out who has no such contact point on record (D16)."""

from gql_server.hooks import Context, Request, Rule, Setting, Sql, hookimpl


@hookimpl
def eligibility_rules(request: Request) -> list[Rule]:
    if request.context is not Context.BATCH:
        return []
    return [
        Rule(
            "on_record",
            "This contact point is not on record.",
            bars=Sql("c.address is null"),
            settings=frozenset({Setting.ON, Setting.OFF}),
        )
    ]
