"""`python -m harness.commands.main`, for scripts that name the entry of before; the entry is `python -m rbrbench`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("rbrbench", run_name="__main__", alter_sys=True)
