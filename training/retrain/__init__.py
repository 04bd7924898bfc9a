"""Retraining as a habit: new labelled calls in, a candidate beside the champion, gates, a new version or reasons.

incoming   validate, provenance, near copies of what is known
sides      near copies in a delivery, and which side each call is on
trainer    fit from the champion, old calls held to what it says of them
between    how far from it old development calls let a candidate go
compare    both models on the frozen gold calls and on the new ones: the table, the gates
canaries   does a phrase of the new data switch the alarm off, or on?
run        all of it in order;  command, promotion: the command line
"""
