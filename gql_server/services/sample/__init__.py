"""Sample districts: invented, and the same for the same size and seed."""

from gql_server.services.sample.make import SamplePeople, make_sample

__all__ = ["SamplePeople", "make_sample"]
