"""`python -m harness.commands.main`, for scripts that name the entry of before; the entry is `python -m rbrbench`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[0] = "rbrbench"  # a fault is told as the command's, not as that of a program that imports us
    runpy.run_module("rbrbench", run_name="__main__", alter_sys=True)
