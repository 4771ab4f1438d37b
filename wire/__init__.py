"""What two parts must agree on: messages, topics, Kafka settings and client factories."""
