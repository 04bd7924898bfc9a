"""Which recent calls are worth a label: kept transcripts ranked, out to Label Studio, and back as labelled calls."""
