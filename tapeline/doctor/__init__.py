"""``tapeline doctor``: is everything here that bridge, worker and reader need?

Each check looks at one thing, has three seconds, changes nothing, and says how to mend what it
finds. `model` runs them; `machine`, `store`, `broker` and `venues` are the checks.
"""
