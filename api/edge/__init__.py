"""The edge: who connects and from where, by what name, how often; what every answer carries."""
