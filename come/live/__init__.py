"""Answers at once: what a change of the plan would cost, and what the pruned model says.

One resident process per user and ``COME_HOME`` holds the models and answers all visitors; ``come.live.client`` asks it.
Importing this package, or the client, loads no model code.
"""

from come.live.answer import Answer, Change, Suggestion, change
from come.live.cancel import Cancelled
from come.live.question import Merge, Question, Subject
from come.live.speech import Along, End, Parting, Sampling, Start, Word

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
