"""The GraphQL types. A type that is a row of a graph file declares its columns and links, and no resolvers."""
