"""A rules file that several tests judge by."""

STRICTER = """
[[rules]]
id = "amount-limit"
kind = "amount_limit"
limit = 500
[[rules]]
id = "velocity"
kind = "velocity"
within = "60s"
limit = 2
shadow = true
"""
"""Calls more than 500 fraud, and counts transactions in shadow."""
