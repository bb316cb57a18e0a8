"""What is timed, and against what: ratios in one run, medians of pairs, never a bare number of seconds.

``make bench`` prints all tables; ``python -m benchmarks measuring progressive`` prints some.
"""
