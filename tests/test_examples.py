"""The examples run and say what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_add_a_latent(capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(EXAMPLES / "add_a_latent.py"), run_name="__main__")
    assert "round trip" in capsys.readouterr().out
    latent = names["Hadamard"]()
    x = torch.randn(2, 1, 1, 8, 12)
    latent.fit([x])
    torch.testing.assert_close(latent.decode(latent.encode(x)), x, rtol=1e-4, atol=1e-5)
    unit = torch.eye(16 * 2 * 3).reshape(-1, 16, 1, 2, 3)
    variance = torch.rand(1, 16, 1, 2, 3)
    columns = (latent.decode(unit) - latent.decode(torch.zeros_like(unit))).flatten(1)
    torch.testing.assert_close(latent.decode_variance(variance).flatten(), columns.square().T @ variance.flatten())


def test_jobs_of_slurm_work_on_a_task_at_a_time() -> None:
    """…with all their cores, and end before SLURM ends them. No SLURM is needed to say what a job would be."""
    names = runpy.run_path(str(EXAMPLES / "slurm.py"))
    with names["slurm"]() as cluster:
        script = cluster.job_script()
    for words in ("#SBATCH --cpus-per-task=8", "--nthreads 1", "export OMP_NUM_THREADS=8", "--lifetime 23h50m"):
        assert words in script, script
