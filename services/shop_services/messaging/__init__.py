"""Messages between services: a bus (JetStream, or in memory), and what ties it to a database (outbox, inbox)."""
