"""The load generator: simulates accounts, drives traffic, measures and verifies."""
