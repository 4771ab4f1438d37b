"""The gateway: takes transactions in over HTTP, streams verdicts out over server-sent events."""
