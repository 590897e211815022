"""Who calls, and what they may do: identities, roles, limits. Knows nothing of any transport."""
