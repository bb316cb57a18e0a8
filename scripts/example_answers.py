"""Records anew what the shipped example answers before anything is loaded: .venv/bin/python -m scripts.example_answers

What the plan to begin with comes to (the plan page), and what three pruned models go on with after one prompt (the
playground). Run it after scripts.make_example, whose runs these are of. The resident process answers, as it does to
visitors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from app import example_runs
from app.plan.whatif import ask, example
from app.plan.whatif.ask import Predicted
from app.playground import candidates
from app.playground.generation import Asked, Generation, record
from app.state import foreseen
from app.state.choice import Choice, Draft
from come.measurement.measurement import Measurement
from come.models import describe
from come.runs import window_costs
from come.serving.playground.speech import Sampling
from come.serving.resident import client
from come.serving.whatif.question import Question

SAMPLING = Sampling(new_tokens=48, top=6)


def main() -> None:
    """Ask, and write app/example."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    predict()
    talk()


def predict() -> None:
    """The prediction of the plan to begin with."""
    run = example_runs.run_for(Choice().model)
    assert run is not None
    measured = Measurement.load(run.path / "analysis.safetensors")
    found = foreseen.forecast(Draft(), measured, describe(Choice().model), costs=window_costs.read(run))
    subject, question = ask.subject(Choice(), run), ask.question(Draft(), found)
    original, answer = (client.whatif(subject, each) for each in (Question(), question))
    example.record(subject, question, Predicted(original, answer))


def talk() -> None:
    """The answers to the first of the playground's questions, and the models' chances along the original's answer."""
    offer = candidates.offer(Choice().model)
    shipped = {run: found for run, found in offer.candidates.items() if found.shipped}
    runs = sorted((run for run in shipped if "-come-" in run), key=lambda run: -(shipped[run].layers or 0))
    plans = {run: shipped[run].plan for run in runs}
    prompt = next(iter(candidates.QUESTIONS.values()))
    asked = Asked(offer.model, prompt, plans, offer.names, SAMPLING)
    subject = ask.subject(Choice(), None)
    paths = {run: Path(plan) for run, plan in plans.items()}
    said = list(client.generate(subject, prompt, paths, SAMPLING))
    new = Generation(asked)
    for each in said:
        new.add(each)
    # Opened where one lies farthest from the original, as a visitor's own is.
    found = client.along(subject, new.whole_text(), paths, since=prompt)
    record(new, said, found, candidates.RECORDING)


if __name__ == "__main__":
    main()
