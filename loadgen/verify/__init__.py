"""The audit of the log: each transaction in it has exactly one, right verdict."""
