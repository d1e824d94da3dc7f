"""Score identity Distillation with Long-Short Guidance (SiD-LSG; Zhou et al., arXiv 2406.01561).

One iteration, in reading order: `teacher.schedule` (x_t, x0, targets), `guidance` (f_κ, κ1..κ4), `sampler` (x_g, and
z, ε, t), `losses` (L_ψ, L_θ, ω), `step` (both updates, cleaning of gradients, EMA). The engine below it: `state`,
`networks`, `optimizer`. What surrounds it: `recipes`, `loop`, `alarms`, `checkpoint`, `cpu_layout`, `supervisor`.
"""

NUMERICS = "d0a9ed2d8eb9d3b774916326b8a17728d619c383ad4b5402f85b140f088d0c82"
"""Version of what a training computes: a checkpoint is continued by code of the same version only.

Raise it by hand when the same inputs give other weights (losses, guidance, sampler, EMA, optimizer, draws, schedules,
how prompts are read and encoded during training), or when earlier checkpoints cannot be read. Other edits leave it.
This first version is the digest of the training code that earlier checkpoints carry, so that they can be continued;
the next one is "2". `tests/unit/distil/test_numerics.py` fails where numbers change and the version does not.
"""
