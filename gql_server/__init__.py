"""A GraphQL API with plug-in contact rules for school districts."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gql-server")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
