"""The services: what the product does, independent of GraphQL and HTTP."""
