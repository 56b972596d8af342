"""The pages in docs/: links lead somewhere, and the keys, options and files they name exist."""

from __future__ import annotations

import json
import re
import unittest
from pathlib import Path
from typing import Any

from hw_asr.cli import test as test_command
from hw_asr.cli import train as train_command
from hw_asr.config import override, parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "scripts").rglob("*.md")])
CONFIGS = ROOT / "hw_asr" / "configs"
OPTIONS = re.compile(r"(?<![\w-])(--[a-z][a-z_-]+)")


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def base_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((CONFIGS / "librispeech_100.json").read_text(encoding="utf-8"))
    return config


class DocsTest(unittest.TestCase):
    def test_links_lead_somewhere(self) -> None:
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
                if "://" in target:
                    continue
                name, _, anchor = target.partition("#")
                path = (page.parent / name).resolve() if name else page
                self.assertTrue(path.exists(), f"{page.name}: {target}")
                if anchor and path.suffix == ".md":
                    self.assertIn(anchor, anchors(path), f"{page.name}: {target}")

    def test_the_map_shows_every_page(self) -> None:
        text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
        for page in (ROOT / "docs").glob("*.md"):
            if page.name != "index.md":
                self.assertTrue(f"({page.name})" in text, f"docs/index.md does not link {page.name}")

    def test_the_map_shows_every_recipe_and_every_part(self) -> None:
        text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
        for path in CONFIGS.rglob("*.json"):
            name = path.relative_to(CONFIGS)
            self.assertTrue(f"`{name.as_posix()}`" in text or f"`{name.parts[0]}/`" in text, name)
        for path in (ROOT / "hw_asr").iterdir():
            if not path.name.startswith("__") and (path.suffix == ".py" or (path / "__init__.py").is_file()):
                shown = f"`{path.name}`" if path.is_file() else f"`{path.name}/`"
                self.assertTrue(shown in text, f"docs/index.md does not say what {shown} is")

    def test_files_that_are_named_exist(self) -> None:
        for page in PAGES:
            for name in re.findall(
                r"`((?:hw_asr|scripts|benchmarks|docs|demo)/[\w/.+-]+)`", page.read_text(encoding="utf-8")
            ):
                self.assertTrue((ROOT / name).exists(), f"{page.name}: {name}")

    def test_assignments_fit_a_config(self) -> None:
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            for assignment in re.findall(r"--set ([\w.]+=[^\s`\"']+)", text):
                if not assignment.startswith("KEY"):
                    parse(override(base_config(), [assignment.rstrip(".,;)")]))

    def test_keys_that_are_named_exist(self) -> None:
        reference = (ROOT / "docs/config.md").read_text(encoding="utf-8")
        for page in PAGES:
            for key in re.findall(r"`(trainer|preprocessing|augmentations)\.(\w+)`", page.read_text(encoding="utf-8")):
                self.assertTrue(f"`{'.'.join(key)}`" in reference, f"{page.name}: {'.'.join(key)}")

    def test_options_of_the_two_commands_exist(self) -> None:
        for command, module in (("train.py", train_command), ("test.py", test_command)):
            known = _options(module)
            for page in PAGES:
                lines = re.findall(rf"python {command} ([^`\n|]*)", page.read_text(encoding="utf-8"))
                for option in (option for line in lines for option in OPTIONS.findall(line)):
                    self.assertIn(option, known, f"{page.name}: {command} {option}")

    def test_json_on_the_pages_is_json(self) -> None:
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            for block in re.findall(r"^```json\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
                # An object, some keys of one, or an object a line.
                whole = [block, "{" + block + "}", f"[{','.join(block.splitlines())}]"]
                self.assertTrue(any(_is_json(each) for each in whole), f"{page.name}: {block}")


def _options(module: Any) -> set[str]:
    shared = ROOT / "hw_asr" / "cli" / "trust.py"
    return {option for path in (Path(module.__file__), shared) for option in OPTIONS.findall(path.read_text("utf-8"))}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


if __name__ == "__main__":
    unittest.main()
