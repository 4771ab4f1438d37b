"""Transactions in: HTTP bodies validated, put into Kafka, acknowledged, answered for."""
