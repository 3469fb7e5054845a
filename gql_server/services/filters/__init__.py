"""Saved filters: named criteria that administrators use to narrow the people of a batch."""

from gql_server.services.filters.criteria import compile_criteria, fragments_in, storable
from gql_server.services.filters.service import FilterService

__all__ = ["FilterService", "compile_criteria", "fragments_in", "storable"]
