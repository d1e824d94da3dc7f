"""Scores of generated images, each under a named protocol."""

NUMERICS = {
    # How images are sampled.
    "sampling": "1",
    # What a measure reads off an image: those of bundled domains by name, published ones by their protocol's `space`.
    "judge": "1",
    "efficientnet": "1",
    "inception-2015-12-05/clean": "1",
    "inception-2015-12-05/inside": "1",
    "clip/vit-g-14-photo-depicts": "1",
    "hpsv2/v2.0": "1",
    "hpsv2/v2.1": "1",
    # How a score follows from that, by the protocol's formula.
    "frechet": "1",
    "kernel": "1",
    "manifolds": "1",
    "cosine": "1",
    "preference": "1",
    "attributes": "1",
}
"""Versions of what an evaluation computes: raise one by hand when the same inputs give other numbers.

A half-done evaluation uses a block of images again where "sampling" and all its measures have the versions of before.
Scores of another formula or measure do not compare, so such a change needs a new protocol name as well.
`tests/unit/evaluate/test_numerics.py` fails where numbers change and the version does not.
"""
