"""Verdicts out: Kafka read once, streamed to every client, each resumed where it was."""
