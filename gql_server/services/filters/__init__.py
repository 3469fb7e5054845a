"""Saved filters: who a batch is narrowed to, as criteria that administrators write and name."""

from gql_server.services.filters.criteria import compile_criteria, storable
from gql_server.services.filters.service import FilterService

__all__ = ["FilterService", "compile_criteria", "storable"]
