"""Sample districts with invented people. The same size and seed generate the same district."""

from gql_server.services.sample.make import SamplePeople, make_sample

__all__ = ["SamplePeople", "make_sample"]
