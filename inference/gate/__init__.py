"""The gate of the cascade: encoder states in, evidence out, per call; what is below it is never decoded."""
