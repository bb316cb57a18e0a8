"""The metrics that more than one page shows, explained: what an info mark opens (markdown, LaTeX)."""

from __future__ import annotations

PERPLEXITY = r"""
**Perplexity** says how surprised a model is by text that it has not seen: the exponential of its mean loss over $N$
predicted tokens, $\exp\bigl(-\frac1N\sum_t \log p(x_t \mid x_{<t})\bigr)$. At 10 it is as unsure as if it had to choose
among 10 equally likely tokens. Lower is better; numbers on different texts do not compare, nor with and without BOS.

**BOS** is the token that many tokenizers put before a text. Each sequence begins with it where the model's own does so.
It is only read; what is judged is the prediction of the tokens behind it. Some models (Gemma) are lost without it.
"""

NATS = "In nats: logarithms are natural ones, so 1 nat is a factor of e, about 2.7, in probability."

KL = r"""
**KL to the original**, the Kullback–Leibler divergence: the mean over positions of
$\sum_v p(v)\log\frac{p(v)}{q(v)}$ in nats (units of natural logarithms, 1.44 bits
each): how far the pruned model's next-token distribution $q$ is from the original's $p$. 0 means the same predictions.
"""

COMPARED = rf"""
{PERPLEXITY}
**Bits per byte**: the same loss per byte of the text, so that models with other tokenizers compare, too.
{KL}
**Accuracy**: the share of questions answered rightly. **Retention**: what is left of the accuracy above guessing,
$\frac{{\text{{pruned}} - \text{{chance}}}}{{\text{{original}} - \text{{chance}}}}$.
**Stability**: the share of questions that both answer rightly or both wrongly; those on which the original was surest
count most.

**Speed-up**: tokens per second over the original's, both timed in turns on this machine. Prefill reads a prompt, decode
writes one token after another.

**Before recovery**: as pruning left the models. **Recovery** trains them afterwards, to win some of the loss back.

**Paired differences**: all models read the same sequences and answer the same questions, so each pair is compared on
every one of them. That tells far more than the two values: what is hard for one is hard for the other. A bar that
crosses the line cannot be told from it; below 30 questions nothing is told.

**±** of one model's value is one standard error; the brackets of a difference, as in *1.2 (1.1–1.3) times*, are its 95%
interval. **Ringed** runs are the Pareto front: no other is both smaller and better. **Framed** is the best of a column,
whose shade is the rank within it.
"""
