"""Who may do what: API keys, JSON Web Tokens, browsers' sessions, and what each address needs."""
