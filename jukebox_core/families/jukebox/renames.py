"""Names of the weights in OpenAI's checkpoints, and ours for them: the one place where the two meet.

A table is a list of ``(pattern, replacement)`` regular expressions. Applied in order to a checkpoint's key, the first
full match gives our name. A key that nothing matches is left over, and left-over keys are an error (golden README 1).
"""

from __future__ import annotations

Renames = tuple[tuple[str, str], ...]

VQVAE_RENAMES: Renames = ()
PRIOR_RENAMES: Renames = ()
