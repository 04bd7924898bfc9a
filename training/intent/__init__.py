"""Training of the scam-intent model: texts and call scripts -> models/scam_intent/<version>/."""
