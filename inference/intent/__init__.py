"""The rolling transcript in, scam-intent scores out: one score per utterance, in the light of what came before."""
