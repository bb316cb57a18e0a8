"""Pieces that several pages use: widgets, glossary, cost line, background job, poller."""
