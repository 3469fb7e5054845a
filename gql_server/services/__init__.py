"""What the product does, without GraphQL and HTTP."""
