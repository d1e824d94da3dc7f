import subprocess
import sys


def test_a_missing_kfp_is_told_in_one_line() -> None:
    code = "import sys; sys.modules['kfp'] = None; import sidlsg.kubeflow.local.runs"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "sidlsg.runtime.errors.InputError: "
        "kfp is not installed, which runs and compiles pipelines; pip install 'sidlsg[kfp]'"
    )
