"""Rules of the source that ruff and mypy do not check: which way imports run, and how long files and functions are."""

from __future__ import annotations

import ast
import re
import unittest
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("hw_asr", "scripts", "benchmarks", "gdrive_storage")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 300, 60, 7

# What each part of hw_asr may import of hw_asr, besides itself, `errors` and `types`. A part is a package or a module
# at the root ("" is hw_asr/__init__.py). A name with a dot is one module of a package; * is everything.
ALLOWED = {
    "errors": "",
    "types": "",
    "batch": "",
    "config": "",
    "runtime": "",
    # Components receive plain arguments. They import neither configs nor training, and of each other only what is here.
    "features": "runtime.transfers spectrograms",
    "spectrograms": "config.registry",
    "loss": "config.registry runtime.transfers",
    "metrics": "config.registry",
    "models": "batch config.registry features runtime",
    "augmentations": (
        "config.registry datasets.audio datasets.directories datasets.recording features runtime.transfers"
    ),
    "datasets": "batch config.registry runtime",
    "pretrained": "config.registry features runtime",
    "text": "config.registry",
    "lm": "config.registry metrics runtime text",
    "decoders": "config.registry lm runtime text",
    "storage": "config.registry runtime",
    "writers": "config.registry runtime",
    "report": "datasets.audio datasets.recording metrics runtime text.characters writers.jsonl",
    # Training receives objects.
    "checkpoints": "runtime",
    "training": (
        "batch checkpoints features metrics models.forward models.normalization runtime storage.runs writers.base"
    ),
    # From a config to objects, and what commands do with them.
    "experiment": "*",
    # It imports `streaming` where a recording is to be recognised live or piece by piece.
    "recognition": (
        "alignment checkpoints config datasets decoders experiment exported features models.forward runtime "
        "storage.runs streaming"
    ),
    "alignment": "datasets.recording decoders.alignment decoders.ctc_forward report.subtitles runtime",
    "exported": "config experiment features models recognition runtime spectrograms streaming datasets.recording",
    "streaming": "datasets.recording decoders features models recognition runtime",
    "": "recognition",
    "commands": "*",
    # Options of the commands. A command itself is imported when it runs.
    "cli": "commands runtime",
    "__main__": "cli",
}
# Packages that are imported where they are needed, not by importing hw_asr.
HEAVY = {
    "wandb",
    "pandas",
    "matplotlib",
    "pydrive2",
    "googleapiclient",
    "tensorboard",
    "av",
    "numba",
    "fsspec",
    "onnxruntime",
}
AV_MODULES = {"datasets.audio_containers", "datasets.audio_damage", "datasets.audio_ffmpeg"}
"""They are imported where libsndfile cannot read a file."""


Select = Callable[[ast.Module], Iterable[ast.AST]]
"""Chooses the nodes of a module in which imports count."""


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module of hw_asr except the tests, by its dotted name without `hw_asr.`."""
    result = {}
    for path in sorted((ROOT / "hw_asr").rglob("*.py")):
        parts = path.relative_to(ROOT / "hw_asr").with_suffix("").parts
        if parts[0] != "tests":
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            result[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return result


def is_typing_only(node: ast.AST) -> bool:
    """Whether a node is `if TYPE_CHECKING: ...`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes_of(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below one, without those that only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not is_typing_only(node):
            yield node
            yield from nodes_of(node)


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements that run when a module is imported, apart from those inside others."""
    return tree.body


@cache
def imports(module: str, select: Select = nodes_of) -> frozenset[str]:
    """Return what the selected nodes of a module of hw_asr import: `a.b` for `from a import b`."""
    names = set()
    for node in select(modules()[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def own_imports(module: str, select: Select = nodes_of) -> set[str]:
    """Return the modules of hw_asr that a module imports, without `hw_asr.`; a package where a name comes from it."""
    result = set()
    for name in imports(module, select):
        if name.split(".")[0] == "hw_asr":
            own = name.removeprefix("hw_asr").lstrip(".")
            result.add(own if own in modules() else own.rpartition(".")[0])
    return result - {module}


def reached_from(start: str) -> set[str]:
    """Return the modules of hw_asr that importing one of them imports."""
    reached, waiting = set(), [start]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += own_imports(module, top_level)
    return reached


def is_component(node: ast.AST) -> bool:
    """Whether a node is a class that configs name: `@MODELS.register()`."""
    return isinstance(node, ast.ClassDef) and any(".register(" in ast.unparse(part) for part in node.decorator_list)


class ImportsTest(unittest.TestCase):
    def test_every_part_imports_only_what_it_may(self) -> None:
        for module in modules():
            part = module.split(".")[0]
            self.assertIn(part, ALLOWED, "a new part of hw_asr: add to ALLOWED what it may import")
            allowed = {part, "errors", "types", *ALLOWED[part].split()}
            for name in sorted(own_imports(module)):
                is_allowed = bool({"*", name, name.split(".")[0]} & allowed)
                self.assertTrue(is_allowed, f"hw_asr.{module} imports hw_asr.{name}")

    def test_there_are_no_circles(self) -> None:
        """Imports inside functions, and those that only type checkers read, count too."""
        graph = {module: own_imports(module, ast.walk) for module in modules()}
        # Remove, again and again, every module that imports none of the remaining ones.
        while leaves := [name for name, imported in graph.items() if not imported & set(graph)]:
            for name in leaves:
                del graph[name]
        self.assertEqual(set(graph), set(), "these import each other in a circle, or one of the circle")

    def test_recognition_does_not_import_training(self) -> None:
        training = {module for module in reached_from("recognition.loading") if module.startswith("training.")}
        self.assertLessEqual(training, {"training.monitor"})  # checks the config's `monitor`

    def test_the_models_command_does_not_import_torch(self) -> None:
        for module in reached_from("commands.models"):
            self.assertNotIn("torch", {name.split(".")[0] for name in imports(module)}, module)

    def test_recognition_with_exported_models_does_not_import_torch(self) -> None:
        for start in ("commands.transcribe", "commands.align", "recognition.loading", "exported.runtime"):
            for module in reached_from(start):
                packages = {name.split(".")[0] for name in imports(module, top_level)}
                self.assertNotIn("torch", packages, f"hw_asr.{module}, which hw_asr.{start} imports")

    def test_heavy_packages_are_imported_where_they_are_needed(self) -> None:
        for module in modules():
            packages = {name.split(".")[0] for name in imports(module, top_level)} & HEAVY
            if module not in AV_MODULES:
                self.assertEqual(packages, set(), f"hw_asr.{module} imports them at its top")


class SourceTest(unittest.TestCase):
    def test_files_and_functions_are_short(self) -> None:
        for path in self.sources():
            text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
            self.assertLessEqual(len(text.splitlines()), MAX_FILE_LINES, name)
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    length = (node.end_lineno or node.lineno) - node.lineno + 1
                    self.assertLessEqual(length, MAX_FUNCTION_LINES, f"{name}:{node.lineno}: {node.name}")

    def test_functions_have_few_parameters(self) -> None:
        """Keyword-only keys of a config, and options of `hw_asr.load`, do not count: calls name them."""
        for path in self.sources():
            tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT).as_posix()
            by_keys = [part for node in ast.walk(tree) if is_component(node) for part in ast.iter_child_nodes(node)]
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    place = f"{name}:{node.lineno}: {node.name}"
                    is_exempt = node in by_keys or (name, node.name) == ("hw_asr/recognition/loading.py", "load")
                    parameters = [*node.args.args, *([] if is_exempt else node.args.kwonlyargs)]
                    counted = [parameter for parameter in parameters if parameter.arg not in ("self", "cls", "ctx")]
                    self.assertLessEqual(len(counted), MAX_PARAMETERS, place)

    def test_no_path_of_one_machine(self) -> None:
        pattern = re.compile(r"(?<![\w.:/~}])/(?:" + "work|root|home|Users" + r")/\w")
        texts = [ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *(ROOT / "docs").rglob("*.md")]
        texts += [*(ROOT / "hw_asr").rglob("*.json"), *(ROOT / "gdrive_storage").glob("*.json")]
        for path in (*self.sources(), *texts):
            match = pattern.search(path.read_text(encoding="utf-8"))
            self.assertIsNone(match, f"{path}: {match}")

    @staticmethod
    def sources() -> list[Path]:
        return sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])


if __name__ == "__main__":
    unittest.main()
