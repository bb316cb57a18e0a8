"""Writes conversations through chat templates: a question a line on stdin, an answer a line on stdout."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress

from transformers.utils.chat_template_utils import render_jinja_template

longest, seconds = int(os.environ["COME_LONGEST"]), float(os.environ["COME_SECONDS"])
with suppress(OSError, ValueError):  # systems differ in what they can bound
    with open("/proc/self/statm", encoding="ascii") as file:
        begun = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begun + int(os.environ["COME_MEMORY"]),) * 2)

for line in sys.stdin:
    signal.setitimer(signal.ITIMER_PROF, seconds)  # at its end the process is ended
    try:
        written, _ = render_jinja_template(**json.loads(line))
        text = written[0]
        answer = {"answer": text} if len(text) <= longest else {"error": "it writes too much"}
    except MemoryError:
        answer = {"error": "it takes too much memory"}
    except Exception as error:  # a template may raise anything
        answer = {"error": f"{error or type(error).__name__}"[:400]}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    signal.setitimer(signal.ITIMER_PROF, 0)
