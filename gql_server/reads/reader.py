"""Runs compiled reads: one statement, whose answer is the JSON."""

import itertools
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from graphql import GraphQLError, GraphQLSchema, OperationType
from graphql.execution.values import VariableValues

from gql_server.db.protocols import Row
from gql_server.db.session_guard import restored_session
from gql_server.db.statements import bind
from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.domain.sql import Sql
from gql_server.errors import AnswerMismatch, AnswerTooLarge, GqlServerError, TooExpensive
from gql_server.reads.compiler import TOO_LONG, Compiled, Compiler
from gql_server.reads.documents import Document, Operation, shape_bytes, variable_shape
from gql_server.reads.links import Args, Links, ReadContext
from gql_server.reads.price import Price
from gql_server.reads.selections import Path, Refused, Selector

_RUNS = 2
"""A list that turns out to be too long is left out, and the rest is asked for again: so often a statement is run."""
_TOO_LONG = re.compile(rf"{TOO_LONG}:(\d+):\d+(?: (\w+))?")
_INVALID_TEXT = "22P02"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an operation became for a role: its price, what of it is refused, and the statements of the rest.

    parts: the whole query under (); or the linked fields of payloads and events, each under its path.
    """

    price: Price
    refusals: Sequence[GraphQLError]
    parts: Mapping[Path, Compiled]

    @property
    def bytes(self) -> int:
        """Roughly what it takes in memory."""
        return 1_000 + sum(2 * len(part.text) + 500 * len(part.values) for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query: `{"data": ...}` as PostgreSQL made it; None where all of it was refused."""

    json: bytes | None
    refusals: Sequence[GraphQLError]
    price: int


class _Unanswerable(Exception):
    """Fields that cannot be answered as they were asked for. `ran`: whether it took the statement to know."""

    def __init__(self, refused: Refused, *, ran: bool = False) -> None:
        super().__init__()
        self.refused, self.ran = refused, ran


@dataclass(slots=True)
class Reader:
    """Plans and runs the reads of one schema.

    payload_args: arguments that the links of payloads have beside those in the document, with values for a plan.
    cache_bytes: what may be kept of plans.
    """

    schema: GraphQLSchema
    links: Links
    payload_args: Args = field(default_factory=dict)
    cache_bytes: int = 32 * 1024 * 1024
    _plans: ByteBoundedCache[object, Plan] = field(init=False)
    _requests: "itertools.count[int]" = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        self._plans = ByteBoundedCache(self.cache_bytes)

    async def query(
        self, document: Document, operation: Operation, variables: VariableValues, context: ReadContext
    ) -> Answer:
        """Return the answer to a query: what is refused of it is null, the rest is answered.

        Raises TooExpensive, AnswerTooLarge, AnswerMismatch, Unavailable.
        """
        refused: dict[Path, Exception] = {}
        runs = 0
        while runs < _RUNS:
            plan = self.plan(document, operation, variables, context, refused)
            price = plan.price.of(variables.coerced)
            if () not in plan.parts:
                return Answer(None, plan.refusals, price)
            try:
                json = await self._run(plan.parts[()], variables, context, {})
            except _Unanswerable as found:
                refused.update(found.refused)
                runs += found.ran
            else:
                return Answer(json, plan.refusals, price)
        found_long = [str(error) for error in refused.values() if isinstance(error, AnswerTooLarge)]
        raise AnswerTooLarge(f"{' '.join(found_long)} Ask for fewer such lists in one query.")

    def plan(
        self,
        document: Document,
        operation: Operation,
        variables: VariableValues,
        context: ReadContext,
        refused: Refused | None = None,
    ) -> Plan:
        """Return what an operation becomes, made before or now; `refused` are fields that it is made without.

        Raises TooExpensive.
        """
        role = context.viewer.role
        shape = variable_shape(variables)
        key = (document.text, operation.name, role, shape)
        plan = None if refused else self._plans.get(key)
        affordable = plan is not None and plan.price.of(variables.coerced) <= context.limits.price
        if plan is not None and affordable and self._takes(plan, variables, context):
            return plan
        plan, reusable = self._make(document, operation, variables, context, refused or {})
        if reusable:
            # A plan points into its document.
            self._plans.put(key, plan, document.bytes + plan.bytes + shape_bytes(shape))
        return plan

    def _takes(self, plan: Plan, variables: VariableValues, context: ReadContext) -> bool:
        """Return whether payloads and events take their arguments: that is known before the work is begun."""
        try:
            for path, part in plan.parts.items():
                if path:
                    _values(part, variables, context, self.payload_args)
        except _Unanswerable:
            return False
        return True

    def _make(
        self,
        document: Document,
        operation: Operation,
        variables: VariableValues,
        context: ReadContext,
        refused: Refused,
    ) -> tuple[Plan, bool]:
        """Return a plan, and whether it holds for all requests of the same shape. Nothing refused is compiled."""
        selector = Selector(self.schema, self.links, document.fragments, variables, context, refused)
        kind, selection_set = operation.node.operation, operation.node.selection_set
        type_ = self.schema.get_root_type(kind)
        assert type_ is not None
        parts: dict[Path, Compiled] = {}
        role = context.viewer.role
        if kind is OperationType.QUERY:
            fields = selector.query(type_, selection_set)
            if not selector.nothing:
                parts[()] = Compiler(role).operation(fields)
        else:
            selected = selector.parts(type_, selection_set, self.payload_args)
            if not selector.errors:
                parts = {each.path: Compiler(role).field(each) for each in selected}
        plan = Plan(selector.meter.price, tuple(selector.errors), parts)
        return plan, not selector.variable and not refused

    async def part(
        self, plan: Plan, path: Path, variables: VariableValues, context: ReadContext, extra: Args
    ) -> bytes | None:
        """Return the JSON of one field of a plan: what a payload or event shows of the graph; None where it is null.

        `extra`: arguments beside those in the document.
        """
        try:
            return await self._run(plan.parts[path], variables, context, extra)
        except _Unanswerable as found:
            raise next(iter(found.refused.values())) from None

    async def _run(
        self, compiled: Compiled, variables: VariableValues, context: ReadContext, extra: Args
    ) -> bytes | None:
        viewer, request = context.viewer, next(self._requests)
        args: dict[str, object] = {
            "district_id": viewer.district.district_id,
            "today": viewer.district.today(),
            "viewer_source_id": viewer.person_source_id,
            "answer_bytes": context.limits.answer_bytes,
            "request": request,
            **_values(compiled, variables, context, extra),
        }
        sql = Sql(compiled.text)
        if compiled.slots:
            sql = await _fill(sql, compiled, variables, context, extra)
        text, values = bind(sql, **args)
        async with context.db.acquire(viewer.district.district_id) as conn:
            try:
                async with (
                    restored_session(conn) if compiled.slots else nullcontext()
                ):  # slots hold SQL of plug-ins
                    row = await conn.fetchrow(text, *values, timeout=context.limits.seconds)
            except Exception as error:
                raise _too_long(compiled, error) or error from None
            return _checked(row, compiled.stamp(viewer.role, viewer.district.district_id, request), context)


def _values(
    compiled: Compiled, variables: VariableValues, context: ReadContext, extra: Args
) -> dict[str, object]:
    """Return the values of a statement's parameters. Raises _Unanswerable."""
    args: dict[str, object] = {}
    refused: dict[Path, Exception] = {}
    for value in compiled.values:
        try:
            own = value.params(value.args(variables, extra), context)
        except (GqlServerError, GraphQLError) as error:
            refused[value.path] = error
        else:
            args.update((f"{value.prefix}__{name}", part) for name, part in own.items())
    if refused:
        raise _Unanswerable(refused)
    return args


async def _fill(
    sql: Sql, compiled: Compiled, variables: VariableValues, context: ReadContext, extra: Args
) -> Sql:
    """Return the statement with its slots filled. Raises _Unanswerable, TooExpensive."""
    fragments: dict[str, Sql] = {}
    refused: dict[Path, Exception] = {}
    for slot in compiled.slots:
        try:
            filled = await slot.slots(slot.value.args(variables, extra), context)
        except (GqlServerError, GraphQLError) as error:
            refused[slot.value.path] = error
            continue
        for name, fragment in filled.items():
            fragments[f"{slot.prefix}__{name}"] = Sql(
                fragment.text.replace("{parent}", slot.alias), fragment.args
            )
    if refused:
        raise _Unanswerable(refused)
    whole, most = sql.fill(**fragments), context.limits.characters
    if len(whole.text) > most:
        raise TooExpensive(
            f"What the query asks for would be a statement of {len(whole.text):,} characters, for what the saved "
            f"filters and scopes in it say; at most {most:,} are allowed. Ask for fewer of them at once."
        )
    return whole


def _too_long(compiled: Compiled, error: Exception) -> _Unanswerable | None:
    """Return which list has more rows than it may, where that is what the statement failed with."""
    found = _TOO_LONG.search(str(error)) if getattr(error, "sqlstate", None) == _INVALID_TEXT else None
    if found is None:
        return None
    bounded = compiled.lists[int(found[1])]
    name = f"`{bounded.name}` of {found[2]}" if found[2] else f"`{bounded.name}`"
    words = f"{name} has more than {bounded.most} rows, which is more than one answer may list."
    return _Unanswerable({bounded.path: AnswerTooLarge(words)}, ran=True)


def _checked(row: Row | None, made_for: str, context: ReadContext) -> bytes | None:
    """Return the JSON of a row, once it is sure that it was made for this request.

    Raises AnswerMismatch, AnswerTooLarge.
    """
    if row is None or row[2] != made_for:
        raise AnswerMismatch(context.viewer.district.code, context.viewer.role.value)
    json, size = row[0], row[1]
    if json is None and size is not None:
        raise AnswerTooLarge(
            f"The answer has {size:,} bytes; at most {context.limits.answer_bytes:,} are sent at once. "
            "Ask for a smaller `first`, or for fewer fields."
        )
    return json  # type: ignore[no-any-return]
