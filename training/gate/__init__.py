"""Training of the gate: labelled recordings -> states of the served encoder -> models/scam_gate/<version>/."""
