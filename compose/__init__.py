"""How the parts are put together: the command, the embedded Kafka, the local stack, containers."""
