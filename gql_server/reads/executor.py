"""Compiles and runs reads: each is one SQL statement, and the row that it returns holds the finished JSON."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from graphql import GraphQLError, GraphQLSchema, OperationType
from graphql.execution.values import VariableValues

from gql_server.db.protocols import Row
from gql_server.db.session_guard import restored_session
from gql_server.db.statements import bind
from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role
from gql_server.errors import AnswerMismatch, AnswerTooLarge, GqlServerError, TooExpensive
from gql_server.reads.background import Background
from gql_server.reads.compiler import TOO_LONG, CompiledStatement, Compiler
from gql_server.reads.documents import Document, Operation, shape_bytes, variable_shape
from gql_server.reads.links import Args, Links, PluginPart, ReadContext
from gql_server.reads.plugin_failures import PartsByField, failed_fields, log_slow_parts
from gql_server.reads.price import Price
from gql_server.reads.selections import FieldErrors, FieldSelector, ResponsePath

_MAX_RUNS = 2
"""How often the statement of one query may run. If a list is too long, or the SQL of a plug-in fails, the query is run
again without that field."""
_TOO_LONG = re.compile(rf"{TOO_LONG}:(\d+):\d+(?: (\w+))?")
_INVALID_TEXT_REPRESENTATION = "22P02"


@dataclass(frozen=True, slots=True)
class CompiledOperation:
    """An operation compiled for a role: its price, the errors of refused fields, and the statements for the rest.

    statements: for a query, one statement under the path (). For a mutation or subscription, one statement for each
    field with a link in its payloads or events, under the path of the field.
    """

    price: Price
    errors: Sequence[GraphQLError]
    statements: Mapping[ResponsePath, CompiledStatement]

    @property
    def bytes(self) -> int:
        """The approximate memory that it takes."""
        return 1_000 + sum(
            3 * len(statement.text) + 500 * len(statement.params) for statement in self.statements.values()
        )


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query.

    json: `{"data": ...}` as PostgreSQL made it; None if an error makes the whole `data` null.
    """

    json: bytes | None
    errors: Sequence[GraphQLError]
    price: int


class _FieldsRefused(Exception):
    """Fields of a statement cannot be answered. `ran` tells whether the statement was run to find that out."""

    def __init__(self, errors: FieldErrors, *, ran: bool = False) -> None:
        super().__init__()
        self.errors, self.ran = errors, ran


@dataclass(slots=True)
class ReadExecutor:
    """Compiles and runs the reads of one schema, and caches what it compiled.

    payload_args: arguments that links of payloads use and documents do not have, with placeholders for their values.
    cache_bytes: the maximum size of the cache.
    background: compiles what is not cached.
    """

    schema: GraphQLSchema
    links: Links
    payload_args: Args = field(default_factory=dict)
    cache_bytes: int = 64 * 1024 * 1024
    background: Background = field(default_factory=Background)
    _compiled: ByteBoundedCache[object, CompiledOperation] = field(init=False)
    _request_numbers: "itertools.count[int]" = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        self._compiled = ByteBoundedCache(self.cache_bytes)

    async def query(
        self, document: Document, operation: Operation, variables: VariableValues, context: ReadContext
    ) -> QueryResult:
        """Return the result of a query. Refused fields are null, each with an error; the rest is answered.

        Raises TooExpensive, AnswerTooLarge, AnswerMismatch, Busy, Unavailable, and PluginError if fields still fail
        after others were left out.
        """
        known_errors: dict[ResponsePath, Exception] = {}
        runs = 0
        while runs < _MAX_RUNS:
            compiled = await self.compiled(document, operation, variables, context, known_errors)
            price = compiled.price.for_variables(variables.coerced)
            if () not in compiled.statements:
                return QueryResult(None, compiled.errors, price)
            try:
                json = await self._run(compiled.statements[()], variables, context, {})
            except _FieldsRefused as refused:
                known_errors.update(refused.errors)
                runs += refused.ran
            else:
                return QueryResult(json, compiled.errors, price)
        too_long = [str(error) for error in known_errors.values() if isinstance(error, AnswerTooLarge)]
        if not too_long:
            raise next(iter(known_errors.values()))
        raise AnswerTooLarge(f"{' '.join(too_long)} Ask for fewer such lists in one query.")

    async def compiled(
        self,
        document: Document,
        operation: Operation,
        variables: VariableValues,
        context: ReadContext,
        known_errors: FieldErrors | None = None,
    ) -> CompiledOperation:
        """Return what `compile` returns. What is not cached is compiled outside of the event loop.

        Raises TooExpensive, Busy.
        """
        key = _key(document, operation, variables, context.viewer.role)

        def find() -> CompiledOperation | None:
            return None if known_errors else self._find(key, variables, context)

        def make() -> CompiledOperation:
            return self._make(key, document, operation, variables, context, known_errors)

        found = find()
        return found if found is not None else await self.background.once(context.viewer, key, find, make)

    def compile(
        self,
        document: Document,
        operation: Operation,
        variables: VariableValues,
        context: ReadContext,
        known_errors: FieldErrors | None = None,
    ) -> CompiledOperation:
        """Return the compiled operation, from the cache or new. It leaves out the fields of `known_errors`.

        Raises TooExpensive.
        """
        key = _key(document, operation, variables, context.viewer.role)
        found = None if known_errors else self._find(key, variables, context)
        return found or self._make(key, document, operation, variables, context, known_errors)

    def _make(
        self,
        key: tuple[object, ...],
        document: Document,
        operation: Operation,
        variables: VariableValues,
        context: ReadContext,
        known_errors: FieldErrors | None,
    ) -> CompiledOperation:
        """Return a newly compiled operation, and cache it if it can be reused. Raises TooExpensive."""
        compiled, reusable = self._compile(document, operation, variables, context, known_errors or {})
        if reusable:
            # A compiled operation refers to nodes of its document, and so keeps the document in memory.
            self._compiled.put(key, compiled, document.bytes + compiled.bytes + shape_bytes(key[-1]))
        return compiled

    def _find(
        self, key: tuple[object, ...], variables: VariableValues, context: ReadContext
    ) -> CompiledOperation | None:
        """Return a cached operation if it can be used for this request."""
        compiled = self._compiled.get(key)
        return compiled if compiled is not None and self._is_valid(compiled, variables, context) else None

    def _is_valid(self, compiled: CompiledOperation, variables: VariableValues, context: ReadContext) -> bool:
        """Tell whether a cached operation can be used with the values of this request.

        The arguments of payloads and events are validated here, before a mutation does its work. Those of queries are
        validated when the statement is run.
        """
        if compiled.price.for_variables(variables.coerced) > context.limits.max_price:
            return False
        try:
            for path, statement in compiled.statements.items():
                if path:
                    _parameter_values(statement, variables, context, self.payload_args)
        except _FieldsRefused:
            return False
        return True

    def _compile(
        self,
        document: Document,
        operation: Operation,
        variables: VariableValues,
        context: ReadContext,
        known_errors: FieldErrors,
    ) -> tuple[CompiledOperation, bool]:
        """Return a newly compiled operation, and whether it can be reused for requests of the same shape."""
        selector = FieldSelector(
            self.schema, self.links, document.fragments, variables, context, known_errors
        )
        kind, selection_set = operation.node.operation, operation.node.selection_set
        type_ = self.schema.get_root_type(kind)
        assert type_ is not None
        statements: dict[ResponsePath, CompiledStatement] = {}
        compiler = partial(Compiler, context.viewer.role, context.max_first)
        if kind is OperationType.QUERY:
            fields = selector.query_fields(type_, selection_set)
            if not selector.data_is_null:
                statements[()] = compiler().compile_query(fields)
        else:
            fields = selector.payload_fields(type_, selection_set, self.payload_args)
            if not selector.errors:
                statements = {field.path: compiler().compile_field(field) for field in fields}
        compiled = CompiledOperation(selector.meter.price, tuple(selector.errors), statements)
        return compiled, not selector.depends_on_values and not known_errors

    async def read_field(
        self,
        compiled: CompiledOperation,
        path: ResponsePath,
        variables: VariableValues,
        context: ReadContext,
        extra_args: Args,
    ) -> bytes | None:
        """Return the JSON of one field of a payload or event; None if it is null.

        `extra_args` are arguments that the document does not have. Raises the error of the field.
        """
        try:
            return await self._run(compiled.statements[path], variables, context, extra_args)
        except _FieldsRefused as refused:
            error = next(iter(refused.errors.values()))
            raise error from error.__cause__  # the log says what made the SQL of a plug-in fail

    async def _run(
        self, statement: CompiledStatement, variables: VariableValues, context: ReadContext, extra_args: Args
    ) -> bytes | None:
        viewer, request = context.viewer, next(self._request_numbers)
        args: dict[str, object] = {
            "district_id": viewer.district.district_id,
            "today": viewer.district.today(),
            "viewer_source_id": viewer.person_source_id,
            "answer_bytes": context.limits.max_answer_bytes,
            "request": request,
            **_parameter_values(statement, variables, context, extra_args),
        }
        parts: PartsByField = {}
        if statement.numbered is None:
            sql, parts = await _fill_slots(statement, variables, context, extra_args)
            text, values = bind(sql, **args)
        else:
            text, names = statement.numbered
            values = [args[name] for name in names]
        request_tag = statement.request_tag(viewer.role, viewer.district.district_id, request)
        async with context.db.acquire(viewer.district.district_id, read=text) as conn:
            try:
                if statement.slots:
                    async with restored_session(conn):  # side effects of plug-ins' SQL must not last
                        row = await conn.fetchrow(text, *values, timeout=context.limits.timeout_seconds)
                else:
                    row = await conn.fetchrow(text, *values, timeout=context.limits.timeout_seconds)
            except Exception as error:
                if too_long := _list_too_long(statement, error):
                    raise too_long from None
                log_slow_parts(error, parts, viewer.district.code)
                failed = await failed_fields(conn, error, parts, args, context.limits.timeout_seconds)
                if failed:
                    raise _FieldsRefused(failed, ran=True) from None
                raise
            return _validated_json(row, request_tag, context)


def _key(
    document: Document, operation: Operation, variables: VariableValues, role: Role
) -> tuple[object, ...]:
    """Return what a compiled operation depends on."""
    return (document.key, operation.number, role, variable_shape(variables))


def _parameter_values(
    statement: CompiledStatement, variables: VariableValues, context: ReadContext, extra_args: Args
) -> dict[str, object]:
    """Return the values of a statement's parameters. Raises _FieldsRefused."""
    values: dict[str, object] = {}
    errors: dict[ResponsePath, Exception] = {}
    for params in statement.params:
        try:
            own = params.params(params.args(variables, extra_args), context)
        except (GqlServerError, GraphQLError) as error:
            errors[params.path] = error
        else:
            for name, value in own.items():
                values[f"{params.prefix}__{name}"] = value
    if errors:
        raise _FieldsRefused(errors)
    return values


async def _fill_slots(
    statement: CompiledStatement, variables: VariableValues, context: ReadContext, extra_args: Args
) -> tuple[Sql, PartsByField]:
    """Return the statement with its slots filled, and what plug-ins wrote of it.

    Raises _FieldsRefused, TooExpensive.
    """
    fragments: dict[str, Sql] = {}
    parts: dict[ResponsePath, tuple[PluginPart, ...]] = {}
    errors: dict[ResponsePath, Exception] = {}
    for slots in statement.slots:
        try:
            filled = await slots.slots(slots.args(variables, extra_args), context)
        except (GqlServerError, GraphQLError) as error:
            errors[slots.field.path] = error
            continue
        parts[slots.field.path] = filled.parts
        for name, fragment in filled.sql.items():
            fragments[f"{slots.prefix}__{name}"] = Sql(
                fragment.text.replace("{parent}", slots.parent), fragment.args
            )
    if errors:
        raise _FieldsRefused(errors)
    whole, maximum = Sql(statement.text).fill(**fragments), context.limits.max_characters
    if len(whole.text) > maximum:
        raise TooExpensive(
            f"The query would become an SQL statement of {len(whole.text):,} characters, because of the criteria of the"
            f" saved filters and scopes in it; at most {maximum:,} are allowed. Ask for fewer of them at once."
        )
    return whole, parts


def _list_too_long(statement: CompiledStatement, error: Exception) -> _FieldsRefused | None:
    """Return which list has too many rows, if that is why the statement failed; else None."""
    is_conversion_error = getattr(error, "sqlstate", None) == _INVALID_TEXT_REPRESENTATION
    found = _TOO_LONG.search(str(error)) if is_conversion_error else None
    if found is None:
        return None
    too_long = statement.lists[int(found[1])]
    name = f"`{too_long.name}` of {found[2]}" if found[2] else f"`{too_long.name}`"
    message = f"{name} has more than {too_long.max_rows} rows, which is more than one answer may list."
    return _FieldsRefused({too_long.path: AnswerTooLarge(message)}, ran=True)


def _validated_json(row: Row | None, request_tag: str, context: ReadContext) -> bytes | None:
    """Return the JSON of a row that was made for this request. Raises AnswerMismatch, AnswerTooLarge.

    A pooler that mixes up prepared statements can return the row of another request. The tag reveals that.
    """
    if row is None or row[2] != request_tag:
        raise AnswerMismatch(context.viewer.district.code, context.viewer.role.value)
    json, size = row[0], row[1]
    if json is None and size is not None:
        raise AnswerTooLarge(
            f"The answer has {size:,} bytes; at most {context.limits.max_answer_bytes:,} are sent at once. "
            "Ask for a smaller `first`, or for fewer fields."
        )
    return json  # type: ignore[no-any-return]
