"""What a new run would make of the layers: the plan page's picture, small, above the form."""

from __future__ import annotations

from app.components import widgets
from app.figures import plan as plan_figures
from app.state import foreseen, session, visit
from come.errors import ComeError
from come.models import Facts


def draw(facts: Facts) -> None:
    """The picture, where it is foreseen what the plan does."""
    try:
        found = foreseen.forecast(session.draft(), visit.measurement(), facts, session.choice().seed, visit.costs())
    except ComeError:  # the form says why
        return
    drawn = visit.as_run(found, facts)
    if drawn is None or not (drawn.windows or drawn.removed):
        return
    figure = plan_figures.foreseen(drawn, facts, small=True)
    if drawn.doubt:
        figure.update_layout(title_text=f"Foreseen: {figure.layout.title.text}")
    widgets.chart(figure, key="planned", alt="The layers before and after; Plan has the numbers.", zooms=False)
