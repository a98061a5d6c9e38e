"""What the site has beside docs/*.md: READMEs of the rooms, the notebook, a page a command, the Python API.

All of it is made while mkdocs builds, from what is in the repository, so nothing is copied by hand. Pages of docs/ are
written to be read on GitHub: links and lists are turned here into what mkdocs takes.
"""

from __future__ import annotations

import inspect
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from cli import COMMANDS, cli  # noqa: E402

PAPERS = {
    path.relative_to(ROOT).as_posix(): f"papers/{path.parent.name}.md"
    for path in sorted(ROOT.glob("benchmarks/catalog/*/README.md"))
}
# File of the repository -> its page, for what is read on the site and does not lie in docs/.
PAGES = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "data_prep/README.md": "data-sets.md",
    "results/README.md": "registry.md",
    "tests/README.md": "tests.md",
    "tests/golden/README.md": "golden.md",
    "docs/registry.ipynb": "notebook.md",
    **PAPERS,
    **{path.relative_to(ROOT).as_posix(): path.name for path in ROOT.glob("docs/*.md")},
}
API = {
    "Recipes": ["benchmarks.recipe"],
    "Engines": ["benchmarks.engine"],
    "Registry": [
        *("results.record", "results.registry", "results.merging", "results.verification"),
        *("results.index", "results.groups", "results.statistics"),
    ],
}

POLICY = "default-src 'self' 'unsafe-inline' data: blob:"


def on_config(config: Any) -> None:
    """The navigation: what docs/index.md lists, then the pages that are made here."""
    _, *sections = re.split(r"^\*\*(.+)\*\*$", _text(ROOT / "docs" / "index.md"), flags=re.MULTILINE)
    listed = {
        title: re.findall(r"^- \[.+?\]\((.+?)\)", text, re.MULTILINE)
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }
    config.nav = [
        "index.md",
        {"Start": "start.md"},
        *({title: [PAGES[_target("docs/index.md", link)[0]] for link in links]} for title, links in listed.items()),
        {"Papers": list(PAPERS.values())},
        {"Commands": ["commands/index.md", *(f"commands/{name}.md" for name in COMMANDS)]},
        {"Python": [f"api/{title.lower()}.md" for title in API]},
    ]


def on_files(files: Any, config: Any) -> None:
    """Add the pages that do not lie in docs/."""
    texts = {"commands/index.md": _commands()} | {f"commands/{name}.md": _command(name) for name in COMMANDS}
    texts |= {f"api/{title.lower()}.md": _modules(title, names) for title, names in API.items()}
    texts |= {page: _text(ROOT / path) for path, page in PAGES.items() if Path(path).parts[0] != "docs"}
    texts["notebook.md"] = _text(ROOT / "docs" / "registry.ipynb")
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "site.css", abs_src_path=str(Path(__file__).with_name("site.css"))))
    for name in sorted(_linked_files()):
        files.append(File.generated(config, f"repository/{name}", abs_src_path=str(ROOT / name)))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of the repository as links of the site; lists as Python-Markdown knows them."""
    source = next((path for path, name in PAGES.items() if name == page.file.src_uri), "")
    text = re.sub(r"(\[[^\]]*\])\(([^)\s]+)\)", lambda link: _relinked(link, source, page.file.src_uri), markdown)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _lists(part) for part in parts)


def on_post_page(output: str, **_: Any) -> str:
    """Have the browser refuse whatever a script might ask of another host."""
    return output.replace("<head>", f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}">', 1)


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """The same on the page that says that a page is not there."""
    return on_post_page(output_content) if template_name.endswith(".html") else output_content


def _relinked(link: re.Match[str], source: str, page: str) -> str:
    target, anchor = _target(source, link[2])
    if "://" in link[2] or link[2].startswith("#") or not source:
        return link[0]
    if (ROOT / target).is_dir():
        return link[1][1:-1]  # a folder has no page
    wanted = PAGES.get(target, f"repository/{target}")
    return f"{link[1]}({posixpath.relpath(wanted, posixpath.dirname(page) or '.')}{anchor})"


def _target(source: str, link: str) -> tuple[str, str]:
    """The file of the repository that a link of another one leads to, and its anchor."""
    path, mark, anchor = link.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path)), mark + anchor


def _linked_files() -> set[str]:
    """Files that pages link to and that are no pages: the site has them as they are."""
    links = ((path, link) for path in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", _text(ROOT / path)))
    targets = {_target(path, link)[0] for path, link in links if "://" not in link and not link.startswith("#")}
    return {target for target in targets - PAGES.keys() if (ROOT / target).is_file()}


def _lists(text: str) -> str:
    """GitHub takes lists without an empty line before them, and two spaces for a list in a list."""
    text = re.sub(r"^(?![-*] |[|\s]|\d+\. )(.+\n)(?=[-*] |1\. )", r"\1\n", text, flags=re.MULTILINE)
    return re.sub(r"^  (?=- )", "    ", text, flags=re.MULTILINE)


def _text(path: Path) -> str:
    """A page's Markdown; of a notebook its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"])
    return "\n\n".join(content if kind == "markdown" else f"```python\n{content}\n```" for kind, content in cells)


def _modules(title: str, names: list[str]) -> str:
    return f"# {title}\n\n" + "\n\n".join(f"::: {name}" for name in names) + "\n"


def _commands() -> str:
    """The page of all commands, from click's help."""
    context = click.Context(cli, info_name="python cli.py")
    lines = [f"- [`{name}`]({name}.md): {_loaded(name).get_short_help_str(200)}" for name in cli.list_commands(context)]
    return "\n".join(["# Commands", "", inspect.cleandoc(cli.help or ""), "", *lines, ""])


def _command(name: str) -> str:
    """The page of a command, from click's help; those of a group, as `queue add`, are parts of its page."""
    command = _loaded(name)
    parts = command.commands if isinstance(command, click.Group) else {}
    helps = [_help(part, f"{name} {of}", "##") for of, part in sorted(parts.items())]
    return "\n".join([_help(command, name, "#"), *helps])


def _help(command: click.Command, name: str, mark: str) -> str:
    """What click says of a command; `mark`: of its heading."""
    context = click.Context(command, info_name=f"python cli.py {name}", **command.context_settings)
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    rows = [f"| `{option}` | {_cell(said)} |" for option, said in records]
    usage = " ".join(command.collect_usage_pieces(context))
    paragraphs = inspect.cleandoc(command.help or "").replace("\b", "")
    head = f"{mark} {name}\n\n```sh\npython cli.py {name} {usage}\n```\n\n{paragraphs}\n\n"
    return head + "\n".join(["| option | |", "|---|---|", *rows, ""])


def _loaded(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    return command


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_\[\]])", r"\\\1", " ".join(text.split()))
