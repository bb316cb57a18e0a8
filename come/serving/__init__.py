"""Answers at once: what a change of the plan would cost, and what the pruned model says.

One resident process per user and ``COME_HOME`` holds the models; ``come.serving.resident.client`` asks it.

Importing this package, or the client, loads no model code.
"""

from come.serving.cancellation import Cancelled
from come.serving.playground.speech import Along, End, Parting, Sampling, Start, Word
from come.serving.whatif.answer import Answer, Change, Suggestion, change
from come.serving.whatif.question import Merge, Question, Subject

__all__ = [
    "Along",
    "Answer",
    "Cancelled",
    "Change",
    "End",
    "Merge",
    "Parting",
    "Question",
    "Sampling",
    "Start",
    "Subject",
    "Suggestion",
    "Word",
    "change",
]
