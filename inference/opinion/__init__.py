"""The third stage, off by default: a language model's opinion of a call at ``suspect``, bounded, never waited for."""
