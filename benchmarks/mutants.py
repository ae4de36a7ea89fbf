"""Mutation testing of single files with mutmut: ``make mutants FILES="..."`` or ``SINCE=main~1``.

Works on a copy of the tree. Each file is tried with its mirrored tests only, or those of ``TESTS``,
and a sample of its mutants, each in a process that is forked after everything is imported.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
MEMORY = 8 << 30  # of a process under test, as a mutant may ask for anything
SAYS = ("warnings.warn", "logger.", "log.")
UNNOTICED = (0, 5, 33, None)  # of mutmut: survived, no test comes there, not tried
TOO_SLOW = (-24, 24, 36, 152)
NOT_RUN = 255

# Further tests than those of a file's own name, seen from their folder.
TESTS = {
    "backends/analysis.py": ["test_profile_pass", "test_rounding"],
    "backends/ops/*.py": ["test_operations", "test_random_networks", "test_rounding"],
    "backends/rows.py": ["test_extremes", "../nn/test_combinators", "../nn/test_untrained"],
    "datasets/dataset.py": ["test_arrays", "test_tables", "test_task"],
    "datasets/readers.py": ["test_tables", "test_broken_files"],
    "estimators/loo.py": ["test_leave_one_out"],
    "operators/store/check.py": ["test_store"],
    "ir/fold.py": ["../backends/test_operations"],
    "nn/spatial.py": [
        "test_spatial_arguments",
        "test_spatial_images",
        "test_spatial_order",
        "test_spatial_sizes",
        "test_spatial_texts",
    ],
    "operators/store/store.py": [
        "test_store",
        "test_store_header",
        "test_store_operator",
        "test_store_processes",
    ],
    "solvers/pcg/checkpoint.py": ["test_checkpoint", "test_resumed"],
    "solvers/cholesky/*.py": ["test_cholesky", "test_out_of_core"],
    "solvers/pcg/*.py": [
        "test_conjugate",
        "test_pcg",
        "test_pcg_memory",
        "test_pcg_path",
    ],
    "solvers/pcg/solver.py": ["test_resumed"],
    "solvers/refine.py": ["test_cholesky"],
    "solvers/restricted/*.py": ["test_restricted"],
    "solvers/sketch/*.py": ["test_sketch"],
}

SETTINGS = """\
[mutmut]
source_paths=kernreg
only_mutate={file}
also_copy=
{others}
process_isolation=forkserver
timeout_constant=10
timeout_multiplier=4
pytest_add_cli_args=
    --failed-first
    -ofaulthandler_timeout=120
    -ofaulthandler_exit_on_timeout=true
pytest_add_cli_args_test_selection=
{tests}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="files of kernreg/")
    parser.add_argument("--since", help="only lines that changed since this commit")
    parser.add_argument("--tests", nargs="+", help="instead of those that mirror a file")
    parser.add_argument("--limit", type=int, default=60, help="mutants tried per file; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    args = parser.parse_args()
    changed = changed_lines(args.since) if args.since else {}
    files = args.files or sorted(changed)
    if not files:
        parser.error("name files of kernreg/, or a commit since which lines of them changed")
    for file in files:
        if not (ROOT / file).is_file() or not file.startswith("kernreg/"):
            parser.error(
                f"expected a Python file such as kernreg/solvers/pcg/conjugate.py, found {file}"
            )
    with tempfile.TemporaryDirectory(prefix="kernreg-mutants-") as folder:
        copy_tree(Path(folder))
        os.chdir(folder)
        for file in files:
            lines = changed.get(file, set()) if args.since else None
            measure(file, lines, args.tests or tests_of(file), args.limit, args.seed)


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, stdout=-1, text=True)
    return done.stdout if not done.returncode else sys.exit(done.returncode)  # git says why


def changed_lines(commit: str) -> dict[str, set[int]]:
    """The lines of each file under kernreg/ that the working tree has and ``commit`` has not."""
    lines: dict[str, set[int]] = {}
    for line in git(
        "diff", "-U0", "--no-ext-diff", "--no-color", commit, "--", "kernreg"
    ).splitlines():
        if line.startswith("+++ "):
            current = lines.setdefault(line[6:], set())
        elif match := re.match(r"@@ \S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(match[1]), int(match[2] or 1)
            current.update(range(first, first + count))
    return {file: found for file, found in lines.items() if found and file.endswith(".py")}


def copy_tree(folder: Path) -> None:
    """What git tracks or would add, and the compiled extension."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    names += [str(path.relative_to(ROOT)) for path in ROOT.glob("kernreg/_core*.so")]
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def tests_of(file: str) -> list[str]:
    """The mirrored test file and those of the table, or all of the nearest mirrored folder."""
    path = Path("tests", *Path(file).parts[1:])
    folder = next(p for p in path.parents if (ROOT / p).is_dir())
    mirrored = folder / f"test_{path.name}"
    found = [str(mirrored)] if (ROOT / mirrored).exists() else []
    for pattern, names in TESTS.items():
        if path.match(f"tests/{pattern}"):
            found += [os.path.normpath(folder / f"{name}.py") for name in names]
    return found or [str(folder)]


def mutants(file: str) -> Iterator[tuple[str, int, str]]:
    """Name, first line and change of every mutant worth a trial.

    Left out are the words of errors and warnings, the case of strings, and None for a value, which
    fails in any test that comes by.
    """
    from mutmut.mutation.file_mutation import mutate_file_contents

    tree = ast.parse(source := Path(file).read_text())
    words = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).startswith(SAYS))
        for line in range(node.lineno, node.end_lineno + 1)
    }
    functions = {
        name: node
        for owner in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef)))
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
        for name in (f"x_{node.name}", f"x\u01c1{getattr(owner, 'name', '')}\u01c1{node.name}")
    }
    made = mutate_file_contents(file, source)
    module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    code = made.code.splitlines()

    def lines_of(name: str) -> list[str]:
        span = made.line_span_by_function_name[name]
        return [line.replace(name, "") for line in code[span.start - 1 : span.end]]

    for name in made.mutant_names:
        function = name.partition("__mutmut_")[0]
        before, after = lines_of(f"{function}__mutmut_orig"), lines_of(name)
        first = functions[function].end_lineno - len(before) + 1
        for tag, i, k, j, m in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
            old, new = before[i:k], after[j:m]
            line = first + i
            crashes = str(new).count("None") > str(old).count("None")
            same = tag == "equal" or str(old).lower() == str(new).lower()
            if not (same or crashes or line in words):
                marked = [f"- {v.strip()}" for v in old] + [f"+ {v.strip()}" for v in new]
                yield f"{module}.{name}", line, "\n".join(marked)


def equivalent(file: str) -> set[str]:
    """Changes of ``file`` that change nothing, from a list with the reasons."""
    blocks = (block.partition("\n") for block in EQUIVALENT.read_text().strip().split("\n\n"))
    return {change for head, _, change in blocks if head.startswith(f"{file}: ")}


def measure(file: str, lines: set[int] | None, tests: list[str], limit: int, seed: int) -> None:
    """Try a sample of the mutants of ``file`` and print those that no test noticed."""
    shutil.rmtree("mutants", ignore_errors=True)
    Path("mutants").mkdir()  # where mutmut works; Python remembers what is missing of its path
    others = [path.name for path in Path().iterdir() if path.name not in ("kernreg", "tests")]
    listed = {"others": others, "tests": tests}
    text = {name: "\n".join(f"    {v}" for v in values) for name, values in listed.items()}
    Path("setup.cfg").write_text(SETTINGS.format(file=file, **text))
    known = equivalent(file)
    every = {
        name: f"{file}:{line}\n{change}"
        for name, line, change in mutants(file)
        if change not in known and (lines is None or line in lines)
    }
    names = random.Random(seed).sample(list(every), min(limit or len(every), len(every)))
    if not names:
        print(f"{file}: nothing to mutate")
        return
    print(f"{file}: {len(names)} of {len(every)} mutants, {' '.join(tests)}", flush=True)
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "KERNREG_NUM_THREADS"), "1")
    env["PYTHONPATH"] = str(Path("mutants").resolve())  # for processes that tests start
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    run = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children=1", *names]
    done = subprocess.run(run, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        spinner = re.compile("^\\S (Generating|Running|Listing).*\n", re.MULTILINE)
        raise SystemExit(f"mutmut failed on {file}:\n{spinner.sub('', done.stdout)}")
    codes = json.loads(Path("mutants", f"{file}.meta").read_text())["exit_code_by_key"]
    if NOT_RUN in (codes[name] for name in names):
        raise SystemExit(f"{file}: pytest does not find its tests by their names; give plain ids.")
    unnoticed = [name for name in names if codes[name] in UNNOTICED]
    for name in unnoticed:
        print(f"\n{every[name]}" + "\n  (no test comes here)" * (codes[name] != 0))
    noticed, slow = len(names) - len(unnoticed), sum(codes[name] in TOO_SLOW for name in names)
    share = f"{noticed} of {len(names)} mutants noticed ({noticed / len(names):.0%})"
    print(f"\n{file}: {share}, {slow} of them by the time they took", flush=True)


if __name__ == "__main__":
    main()
