"""Recordings and scripts as data: checked, repaired, counted, split, exchanged with other toolkits."""
