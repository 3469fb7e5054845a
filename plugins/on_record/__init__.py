"""A batch excludes whoever does not have the contact point on record (D16)."""

from gql_server.hooks import Context, Rule, RuleRequest, Setting, Sql, hookimpl


@hookimpl
def eligibility_rules(request: RuleRequest) -> list[Rule]:
    if request.context is not Context.BATCH:
        return []
    return [
        Rule(
            "on_record",
            "This contact point is not on record.",
            code="NO_VALUE",
            remedy="Add it to the person or the household, then run the batch again.",
            deny_channel_when=Sql("c.address is null"),
            settings=frozenset({Setting.ON, Setting.OFF}),
        )
    ]
