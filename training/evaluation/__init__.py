"""Evaluation that cannot flatter: calls through the stages that live calls go through, figures that say on what.

texts, recordings  calls -> outcomes (what became of one call)
report             outcomes -> figures, by slice;  page, plots: the same for people
drift              unlabelled traffic against the scores that the model shipped with
"""
