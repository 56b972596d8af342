"""Rules of the source: which way imports run, what loads when, how large files and functions may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import unittest
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 60
LONGER_FUNCTIONS: dict[str, str] = {}
"""`file:function` to the reason why it may be longer than the limit."""

# What each part of hw_asr may import of hw_asr, besides itself and the foundation. A part is a package or a file at
# the top level; a name with a dot is one module of a package.
FOUNDATION = {"errors", "types"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "config": set(),
    "runtime": set(),
    "features": {"runtime.transfers", "spectrograms"},
    "spectrograms": {"config.registry"},
    "loss": {"config.registry", "runtime.transfers"},
    "metrics": {"config.registry"},
    # Components: they receive plain arguments and know nothing of configs, of training or of each other, except that
    # recordings are read in one place and that decoders know language models.
    "models": {"config.registry", "features", "runtime"},
    "augmentations": {"config.registry", "datasets.audio", "datasets.recording", "features", "runtime.transfers"},
    "datasets": {"config.registry", "config.arguments", "runtime"},
    "pretrained": {"config.registry", "config.arguments", "features", "runtime"},
    "text": {"config.registry"},
    "lm": {"config.registry", "config.arguments", "metrics", "runtime", "text"},
    "decoders": {"config.registry", "config.arguments", "lm", "runtime", "text"},
    "storage": {"config.registry", "config.arguments", "runtime"},
    "writers": {"config.registry", "runtime"},
    "report": {"config.arguments", "datasets.audio", "datasets.recording", "metrics", "runtime", "writers.jsonl"},
    # Training receives objects.
    "checkpoints": {"runtime"},
    "training": {
        *("checkpoints", "features", "metrics", "models.forward", "models.normalization", "runtime"),
        *("storage.runs", "writers.base"),
    },
    # From a config to objects, and what commands do with them.
    "experiment": {"*"},
    "recognition": {
        "checkpoints",
        "config",
        "datasets",
        "decoders",
        "experiment",
        "features",
        "models.forward",
        "runtime",
    }
    | {"storage.runs"},
    "": {"recognition"},
    "commands": {"*"},
    # Options of the commands; a command's module is imported when it runs.
    "cli": {"commands", "runtime"},
    "__main__": {"cli"},
}
COMPONENTS = set(ALLOWED) - {
    "config",
    "runtime",
    "errors",
    "types",
    "experiment",
    "recognition",
    "commands",
    "cli",
    "__main__",
}
ABOVE_COMPONENTS = {"config.schema", "config.reading", "experiment", "recognition", "commands", "cli"}
# Loaded by the function or constructor that needs them, never by importing hw_asr.
HEAVY = {"wandb", "pandas", "matplotlib", "pydrive2", "googleapiclient", "tensorboard", "av", "numba", "fsspec"}


def sources(*folders: str) -> list[Path]:
    """Return the Python files of the root directory and below the folders."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted([*found, *ROOT.glob("*.py")])


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_of(path: Path) -> str:
    """Return the dotted name of a file below hw_asr, without `hw_asr.`."""
    parts = path.relative_to(ROOT / "hw_asr").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    paths = [path for path in sorted((ROOT / "hw_asr").rglob("*.py")) if "tests" not in path.parts]
    return {module_of(path): path for path in paths}


def imports(tree: ast.AST, *, top_level: bool = False) -> Iterator[str]:
    """Yield the names that are imported at run time, for `from a import b` also `a.b`; optionally top level only."""
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = tree.body if top_level and isinstance(tree, ast.Module) else ast.walk(tree)
    for node in nodes:
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Return the modules of hw_asr that a file imports, without `hw_asr.`."""
    names = {name.removeprefix("hw_asr.") for name in imports(parsed(path), top_level=top_level) if "hw_asr." in name}
    return names & set(modules())


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter; return the packages it has loaded in the end."""
    return {name.split(".")[0] for name in loaded_modules(code)}


def loaded_modules(code: str) -> list[str]:
    """Run code in a fresh interpreter; return the modules it has loaded in the end."""
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('loaded', *sys.modules)"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.rsplit("loaded", 1)[1].split()


class ImportsTest(unittest.TestCase):
    def test_every_part_imports_only_what_it_may(self) -> None:
        for module, path in modules().items():
            part = module.split(".")[0]
            if not part:
                continue
            self.assertIn(part, ALLOWED, f"{path.name}: a new part; say in this test what it may import")
            allowed = ALLOWED[part]
            for name in sorted(own_imports(path)):
                top = name.split(".")[0]
                fine = top == part or top in FOUNDATION or "*" in allowed or {top, name} & allowed or name == "config"
                self.assertTrue(fine, f"hw_asr.{module} imports hw_asr.{name}")

    def test_components_know_nothing_of_what_is_above_them(self) -> None:
        for module, path in modules().items():
            if module.split(".")[0] in COMPONENTS | FOUNDATION:
                above = {name for name in own_imports(path) if {name, name.split(".")[0]} & ABOVE_COMPONENTS}
                self.assertEqual(above, set(), f"hw_asr.{module}")

    def test_recognition_does_not_import_training(self) -> None:
        code = "import hw_asr.recognition.loading"
        result = {name for name in loaded_modules(code) if name.startswith("hw_asr.training")}
        self.assertLessEqual(result, {"hw_asr.training", "hw_asr.training.monitor"})

    def test_there_are_no_circles(self) -> None:
        graph = {name: own_imports(path, top_level=True) - {name} for name, path in modules().items()}
        # Peel off, again and again, whatever imports nothing that is left.
        while free := [name for name, needed in graph.items() if not needed & set(graph)]:
            for name in free:
                del graph[name]
        packages = {name for name in graph if modules()[name].name == "__init__.py"}
        self.assertEqual(set(graph) - packages, set(), "these import each other in a circle")

    def test_storage_and_its_command_are_free_of_torch_in_source(self) -> None:
        names = [name for name in modules() if name.split(".")[0] == "storage"]
        seen: set[str] = set()
        while names:
            name = names.pop()
            if name not in seen:
                seen.add(name)
                self.assertNotIn("torch", {each.split(".")[0] for each in imports(parsed(modules()[name]))}, name)
                names += own_imports(modules()[name])

    def test_heavy_packages_are_not_imported_at_the_top_of_what_everybody_imports(self) -> None:
        # Imported by datasets.audio when libsndfile cannot read a file.
        allowed = {"datasets.audio_ffmpeg", "datasets.audio_damage"}
        for module, path in modules().items():
            found = {name.split(".")[0] for name in imports(parsed(path), top_level=True)} & HEAVY
            self.assertTrue(not found or module in allowed, f"hw_asr.{module} imports {', '.join(found)} at its top")


class LoadingTest(unittest.TestCase):
    """The same, seen from outside: what a fresh interpreter has loaded."""

    def test_building_loads_nothing_heavy(self) -> None:
        self.assertEqual(
            loaded_after("import hw_asr.experiment.components, hw_asr.experiment.validation") & HEAVY, set()
        )


class SourceTest(unittest.TestCase):
    FOLDERS = ("hw_asr", "scripts", "benchmarks", "gdrive_storage")

    def test_every_file_says_what_lives_in_it(self) -> None:
        for path in sources(*self.FOLDERS):
            if path.read_text(encoding="utf-8").strip() or path.name != "__init__.py":
                docstring = ast.get_docstring(parsed(path)) or ""
                self.assertGreater(len(docstring.splitlines()[0] if docstring else ""), 10, path)

    def test_what_is_public_is_described(self) -> None:
        for path in sources("hw_asr", "scripts"):
            if "tests" in path.parts:
                continue
            for node in public(parsed(path)):
                self.assertTrue(ast.get_docstring(node), f"{path}:{node.lineno}: {node.name} has no docstring")

    def test_every_function_says_what_it_returns(self) -> None:
        for path in sources("hw_asr", "scripts"):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.FunctionDef) and "tests" not in path.parts:
                    self.assertIsNotNone(node.returns, f"{path}:{node.lineno}: {node.name} returns what?")

    def test_files_and_functions_can_be_read(self) -> None:
        for path in sources(*self.FOLDERS):
            tree, name = parsed(path), path.relative_to(ROOT).as_posix()
            self.assertLessEqual(len(path.read_text(encoding="utf-8").splitlines()), MAX_FILE_LINES, name)
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    length = (node.end_lineno or node.lineno) - node.lineno + 1
                    if f"{name}:{node.name}" not in LONGER_FUNCTIONS:
                        self.assertLessEqual(length, MAX_FUNCTION_LINES, f"{name}:{node.lineno}: {node.name}")

    def test_exceptions_are_not_swallowed(self) -> None:
        for path in sources(*self.FOLDERS):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.ExceptHandler):
                    names = (
                        {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)} if node.type else {""}
                    )
                    silent = all(isinstance(each, ast.Pass) for each in node.body)
                    broad = names & {"", "Exception", "BaseException"}
                    self.assertFalse(silent and broad, f"{path}:{node.lineno}: an error of any kind is passed over")

    def test_nothing_is_left_over(self) -> None:
        for path in sources(*self.FOLDERS):
            text = path.read_text(encoding="utf-8")
            self.assertIsNone(re.search(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", text), path)
            self.assertNotEqual(path.stem, "utils")

    def test_no_path_of_one_machine(self) -> None:
        pattern = re.compile(r"(?<![\w.:/~}])/(?:" + "work|root|home|Users" + r")/\w")
        texts = [ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        texts += [*(ROOT / "hw_asr").rglob("*.json"), *(ROOT / "gdrive_storage").glob("*.json")]
        for path in (*sources(*self.FOLDERS), *texts):
            found = pattern.search(path.read_text(encoding="utf-8"))
            self.assertIsNone(found, f"{path}: {found}")


def public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """Yield public classes, functions and methods; those inside functions, and overrides of operators, are not."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            yield node
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield inner


if __name__ == "__main__":
    unittest.main()
