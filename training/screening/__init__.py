"""The risk model of screening, from call records to weights with known signs."""
