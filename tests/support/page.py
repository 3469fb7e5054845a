"""Pages of candidates, and hosts whose only rules are those that a test gives them."""

from collections.abc import Sequence

from gql_server.db.protocols import Database
from gql_server.db.statements import resource_folder
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.viewer import Role
from gql_server.hooks import Candidate, Cell, Context, Rule, RuleRequest, Setting, hookimpl
from gql_server.hooks.host import PluginHost
from gql_server.services.rules.limits import RuleLimits
from gql_server.services.rules.page import Answer, PageCandidate, PageRules
from tests.support.builder import DistrictBuilder

BOTH = frozenset({Setting.ON, Setting.OFF})
CELL, HOME = ContactPointKind.CELL_PHONE, ContactPointKind.HOUSEHOLD_PHONE
_WITH_RULES = ("no_contact", "on_record", "opt_outs", "staff_reason")


class Ruling:
    """A plug-in with the rules given."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    @hookimpl
    def eligibility_rules(self, request: RuleRequest) -> list[Rule]:
        return list(self.rules)


def host_of(*rules: Rule) -> PluginHost:
    """Return a host with the built-in reasons and modes, and no rules but these, of the plug-in `given`."""
    return PluginHost([resource_folder("plugins")], disabled=_WITH_RULES, given={"given": Ruling(*rules)})


def person(
    number: int, on: int = 1, off: int = 0, *, kind: ContactPointKind = CELL, method: Method = Method.VOICE,
    address: str | None = "1",
) -> PageCandidate:  # fmt: skip
    """Return a person's channel with the reasons to turn on and off."""
    return PageCandidate(Candidate(number, None, kind, method, address), on, off)


def household(number: int, on: int = 1, off: int = 0, *, method: Method = Method.VOICE) -> PageCandidate:
    """Return a household's phone with the reasons to turn on and off."""
    return PageCandidate(Candidate(None, number, HOME, method, "1"), on, off)


def request_for(district: DistrictBuilder, context: Context, page: Sequence[PageCandidate]) -> RuleRequest:
    """Return the request whose cells the page has."""
    cells = {
        Cell(asked.candidate.contact_point, asked.candidate.method, reason, setting): None
        for asked in page
        for setting, mask in ((Setting.ON, asked.on_mask), (Setting.OFF, asked.off_mask))
        for reason in district.bits.codes(mask)
    }
    return RuleRequest(
        context=context,
        district=district.district.code,
        time_zone=district.district.time_zone,
        role=Role.ADMIN,
        mode="STUDENTS" if context is Context.BATCH else None,
        cells=tuple(cells),
    )


async def answers(
    db: Database,
    district: DistrictBuilder,
    page: Sequence[PageCandidate],
    *rules: Rule,
    context: Context = Context.WRITE,
    limits: RuleLimits = RuleLimits(),  # noqa: B008
) -> list[Answer]:
    """Return what rules say of a page."""
    host = host_of(*rules)
    asking = PageRules(db, host, district.id, district.district.today(), district.bits, limits)
    try:
        return await asking.ask(request_for(district, context, page), page)
    finally:
        await host.calls.finish(0)


def denied(found: Sequence[Answer]) -> list[list[tuple[str, int]]]:
    """Return, for each candidate, who denies which reasons, in the order of the rules."""
    return [[(denial.rule.rule.name, denial.reasons) for denial in answer.denials] for answer in found]
