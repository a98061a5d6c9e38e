from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import EngineError
from benchmarks.machine import environment

REPOSITORY = Path(__file__).parents[3]

CHANGES_NUMBERS = (
    *("OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_NUM_THREADS", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME", "DNNL_MAX_CPU_ISA"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "MKL_CBWR", "MXNET_MKLDNN_ENABLED", "OPENBLAS_NUM_THREADS", "NUMBA_CPU_NAME"),
    *("DMLC_ROLE", "NNVM_EXEC_MATCH_RANGE"),
    *("NPY_DISABLE_CPU_FEATURES", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG"),
)
STAYS = (
    "OMP_WAIT_POLICY",
    "KMP_DUPLICATE_LIB_OK",
    "GOMP_SPINCOUNT",
    "CUDA_VISIBLE_DEVICES",
    "TORCH_HOME",
    "PATH",
    "OPENBLAS_CORETYPE",
)


@pytest.fixture(autouse=True)
def environment_of_its_own(monkeypatch):
    """A copy: what engines in this process have set must stay."""
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    monkeypatch.setattr(environment, "_taken", {})
    monkeypatch.setattr(environment, "_ours", {})


def test_what_could_change_a_number_is_taken_out_and_nothing_else():
    variables = dict.fromkeys((*CHANGES_NUMBERS, *STAYS), "1")
    assert environment.clear(variables) == dict.fromkeys(CHANGES_NUMBERS, "1")
    assert set(variables) == set(STAYS)
    assert environment.taken_out() == sorted(f"{name}=1" for name in CHANGES_NUMBERS)


def in_a_process(code: str) -> str:
    code = f"import os, sys; from benchmarks.machine import environment; {code}"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def test_what_the_program_sets_itself_stays():
    environment.put("OMP_NUM_THREADS", "2")
    assert environment.clear(os.environ) == {}


def test_what_it_has_set_in_the_process_that_started_this_one_is_taken_out_and_not_told():
    """As a user may say that of any setting, none is believed."""
    environment.put("DNNL_MAX_CPU_ISA", "SSE41")
    assert in_a_process("print(environment.clear(), environment.taken_out())") == "{'DNNL_MAX_CPU_ISA': 'SSE41'} []"


@pytest.mark.parametrize("text", ["x", "[]", "[1]", "7", '{"DNNL_MAX_CPU_ISA": 1}'])
def test_what_is_no_such_text_tells_nothing(text):
    variables = {"BNN_OWN_SETTINGS": text, "DNNL_MAX_CPU_ISA": "SSE41"}
    assert environment.clear(variables) == {"DNNL_MAX_CPU_ISA": "SSE41"}
    assert environment.taken_out() == ["DNNL_MAX_CPU_ISA=SSE41"]


def test_a_value_that_the_program_did_not_set_is_taken_out():
    environment.put("OMP_NUM_THREADS", "2")
    assert environment.clear({"OMP_NUM_THREADS": "3"}) == {"OMP_NUM_THREADS": "3"}


def test_a_framework_that_may_have_read_it_is_refused():
    os.environ["DNNL_MAX_CPU_ISA"] = "AVX2"
    with pytest.raises(EngineError, match="was loaded while DNNL_MAX_CPU_ISA was set"):
        environment.clear_before("pytest")
    assert "DNNL_MAX_CPU_ISA" not in os.environ


def test_what_a_loaded_framework_has_set_itself_stays():
    os.environ["TRITON_PTXAS_PATH"] = "/somewhere/ptxas"
    environment.clear_before("pytest")
    assert os.environ["TRITON_PTXAS_PATH"] == "/somewhere/ptxas"
    assert environment.clear({"TRITON_PTXAS_PATH": "/elsewhere/ptxas"}), "as another process's user may have set it"


def test_what_cannot_be_taken_out_is_recorded_without_paths():
    paths = dict.fromkeys(("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH"), "/home/somebody")
    os.environ |= {"GLIBC_TUNABLES": "glibc.malloc.check=0"} | paths
    factors = ast.literal_eval(in_a_process("os.environ.clear(); print(environment.bit_factors())"))
    assert factors["environment GLIBC_TUNABLES"] == "glibc.malloc.check=0"
    assert [factors[f"environment {name}"] for name in paths] == ["set"] * 3
    assert factors["instructions"]


def test_what_a_library_sets_later_is_not_recorded():
    os.environ["LD_LIBRARY_PATH"] = "/opencv"
    assert "environment LD_LIBRARY_PATH" not in environment.bit_factors()


@pytest.mark.parametrize("variable", [{}, {"PYTHONOPTIMIZE": "1"}])
def test_that_python_leaves_assertions_out_is_recorded(variable):
    os.environ |= variable
    code = "print(environment.bit_factors().get('environment PYTHONOPTIMIZE'))"
    assert in_a_process(code) == variable.get("PYTHONOPTIMIZE", "None")


def test_what_a_library_adds_while_it_is_loaded_is_no_setting_of_processes_that_follow(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "own")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    with environment.without_additions():
        os.environ.update(LD_LIBRARY_PATH="/opencv", LD_PRELOAD="own:other")
    assert ("LD_LIBRARY_PATH" in os.environ, os.environ["LD_PRELOAD"]) == (False, "own")
