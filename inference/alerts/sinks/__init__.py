"""Operators' systems: a file, a webhook, NATS JetStream, Kafka, Redis streams, behind one small interface."""
