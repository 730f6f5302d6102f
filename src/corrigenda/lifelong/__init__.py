"""Lifelong editing: thousands of edits on one model, one after the other, and what is left of them.

A run makes the edits of one data set in one order with one editor. The edits before are live while
the next ones are solved; nothing is ever measured on a model that a user would not have. It keeps

    R[i, t]     free-generation score of edit i after t edits: right after it was made, and at
                checkpoints; also of its paraphrases
    locality    answers about facts that no edit touches, the same before and after
    health      perplexity on a fixed text, every so many edits
    cost        seconds and memory of every call of the editor

on disk as it comes: a run that was killed at any instant goes on to the result that it would have
had. When the model collapses, by a rule that is part of the record, the run stops, takes the step
back that did it, or goes on, whichever was asked.

    plan.py     which edits, in which order, what is asked when
    alarm.py    when a model counts as collapsed
    states.py   the deltas so far, on disk
    run.py      the loop
    course.py   what a finished or interrupted run shows
    summary.py  several orders as one result: JSON, Markdown
    curves.py   the same as pictures

Edits inside a run depend on each other, so the run is the unit: several orders, mean and range.
"""

from __future__ import annotations

from .alarm import Alarm
from .course import Course
from .plan import Plan, divided
from .run import OnCollapse, lifelong
from .summary import Summary

__all__ = ["Alarm", "Course", "OnCollapse", "Plan", "Summary", "divided", "lifelong"]
