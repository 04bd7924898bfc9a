"""Retraining as a habit: new labelled calls in, a candidate beside the champion, gates, a new version or reasons.

incoming   validate, provenance, near copies of what is known
sides      near copies in a delivery, and which side each call is on
trainer    fit (warm start from the champion), calibrate
compare    both models on the frozen gold calls and on the new ones: the table, the gates
canaries   does a phrase of the new data switch the alarm off, or on?
run        all of it in order;  command, promotion: the command line
"""
