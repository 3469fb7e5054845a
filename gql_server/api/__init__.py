"""GraphQL and HTTP: types, inputs and thin resolvers, who is asking, and what a request may cost."""
