"""sidlsg: one-step text-to-image generators by Score identity Distillation with Long-Short Guidance."""

import os

__version__ = "0.1.0"

# Threads of OpenMP that wait for each other keep their CPUs busy, which slows all beside other work. The library reads
# these when torch is loaded; who has set one of them decides.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"
