"""What accuracy is measured on: the bundled sets, MMLU's development questions, a user's own file, lm-eval's tasks."""

from come.evaluate.tasks.load import GROUPS, OFFLINE, QuestionSet, check_tasks, is_group, load_tasks, questions_at_hand

__all__ = ["GROUPS", "OFFLINE", "QuestionSet", "check_tasks", "is_group", "load_tasks", "questions_at_hand"]
