"""Two systems, or two replays, side by side: their reports compared field by field.

`fields` says how each field may differ, `pairing` which two reports belong together, `outcome` what
was found; none of them reads anything. `live` reads Redis, `files` reads what replays have written.
"""
