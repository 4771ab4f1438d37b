"""The detector: reads transactions, decides by rules, writes verdicts, each exactly once."""
