"""From a verdict to somebody's ear or system: the alert, the tone, the outbox and its channels."""
