"""The library's reference, made from its docstrings while the book is built, and the links that lead to it.

`book/reference.md` holds the text around it. Every public name has an entry there; wherever a page
writes such a name, in a sentence or in a cell, it leads to its entry.
"""

import ast
import html
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType

import nbformat

import vaelearn

ROOT = Path(__file__).resolve().parents[1]
PAGE, PLACE = "reference", "<!-- the entries -->"


def modules() -> list[ModuleType]:
    """The public modules, and that of the graded exercises."""
    names = sorted(name for name in vaelearn.__all__ if not callable(getattr(vaelearn, name)))
    return [importlib.import_module(f"vaelearn.{name}") for name in [*names, "exercises"]]


def public(module: ModuleType) -> dict[str, object]:
    """The functions and classes that a module defines for others, in the order of its source."""
    mine = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }
    return {name: mine[name] for name in getattr(module, "__all__", mine) if name in mine}


def methods(cls: type) -> dict[str, object]:
    """The public methods and properties that a class itself defines, and its call."""
    return {
        name: getattr(value, "fget", None) or getattr(value, "__func__", value)
        for name, value in vars(cls).items()
        if (not name.startswith("_") or name == "__call__")
        and (inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod)))
    }


def anchor(module: ModuleType, name: str) -> str:
    """Its place on the page: in small letters, where `MMD` and `mmd` must still be two."""
    kind = "-class" if inspect.isclass(getattr(module, name)) else ""
    return (
        f"{module.__name__}.{name}{kind}".replace("vaelearn.", "vl-", 1)
        .translate(str.maketrans("._", "--"))
        .lower()
    )


def text_of(thing) -> str:
    """A docstring as Markdown: what is not code is taken as it is written."""

    def plain(line):
        parts = re.split(r"(`+[^`]*`+)", line)
        return "".join(
            p.replace("``", "`") if p.startswith("`") else re.sub(r"([*_<$\[{|])", r"\\\1", p) for p in parts
        )

    lines = (inspect.getdoc(thing) or "").splitlines()
    return "\n".join(line if line.startswith("    ") else plain(line) for line in lines)


def signature(name: str, thing) -> str:
    """`name(...)` without annotations: the text says what each argument is."""
    try:
        shape = inspect.signature(thing)
    except (TypeError, ValueError):
        return name
    parameters = [
        p.replace(annotation=p.empty) for p in shape.parameters.values() if p.name not in ("self", "cls")
    ]
    text = str(shape.replace(parameters=parameters, return_annotation=shape.empty))
    return name + re.sub(r"<(?:class|function) '?(?:[\w.]+\.)?(\w+)[^>]*>", r"\1", text)


def entry(module: ModuleType, name: str, thing, repository: str) -> str:
    """One name: its signature, its text, its methods, its source."""
    thing = inspect.unwrap(thing)
    source, line = inspect.getsourcelines(thing)
    file = Path(inspect.getfile(thing)).relative_to(ROOT).as_posix()
    where = f"`{file}`, line {line}"
    if repository:
        where = f"[{where}]({repository}/blob/main/{file}#L{line})"
    parts = [
        f"({anchor(module, name)})=\n### {name}",
        f"```python\n{signature(name, thing)}\n```",
        text_of(thing),
    ]
    if inspect.isclass(thing):
        for method, function in methods(thing).items():
            if function.__doc__:  # its own: what an inherited method promises stands at the ancestor
                call = f"`{signature(method, function)}`\n: "
                parts.append(call + textwrap.indent(text_of(function), "  ").lstrip())
    # Tildes, for a docstring may hold backticks.
    code = textwrap.dedent("".join(source)).rstrip()
    parts.append(f"::::{{dropdown}} Source\n{where}\n\n~~~python\n{code}\n~~~\n::::")
    return "\n\n".join(part for part in parts if part)


def entries(repository: str = "") -> str:
    """The reference as MyST Markdown."""
    page = []
    for module in modules():
        page.append(f"## {module.__name__}\n\n{text_of(module)}")
        page += [entry(module, name, thing, repository) for name, thing in public(module).items()]
    return "\n\n".join(page)


# Links to it ---------------------------------------------------------------------------------------

SPAN = r'<span class="n[a-z]?">(\w+)</span>'
DOTTED = re.compile(rf'{SPAN}(?:<span class="o">\.</span>{SPAN})*')
LITERAL = r'<code class="docutils literal notranslate"><span class="pre">([\w.]+)(?:\(\))?</span></code>'
INLINE = re.compile(rf'(?<!">){LITERAL}(?!</a>)')


def targets() -> dict[str, str]:
    """Where each public name stands: {"vaelearn.bounds.iwae": "vl-bounds-iwae"}."""
    known = {f"{m.__name__}.{name}": anchor(m, name) for m in modules() for name in public(m)}
    return known | {"vaelearn.fit": known["vaelearn.training.fit"]}


def imported(source: str) -> dict[str, str]:
    """What the names that a page imports stand for: {"IWAE": "vaelearn.objectives.IWAE"}."""
    names = {"vl": "vaelearn"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vaelearn":
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def linked(body: str, names: dict[str, str], known: dict[str, str]) -> str:
    """The page with each public name in it leading to its entry."""
    short = {name.removeprefix("vaelearn."): place for name, place in known.items()}

    def place_of(dotted):
        head, _, rest = dotted.partition(".")
        return known.get(".".join(filter(None, [names.get(head, head), rest]))) or short.get(dotted)

    def link(found, dotted):
        # In code a bare `fit` that was not imported is a variable, or another library's method.
        place = place_of(dotted) if "." in dotted or dotted in names or "<code" in found else None
        return f'<a class="vl-entry" href="{PAGE}.html#{place}">{found}</a>' if place else found

    body = DOTTED.sub(lambda m: link(m[0], html.unescape(re.sub("<[^>]*>", "", m[0]))), body)
    return INLINE.sub(lambda m: link(m[0], m[1]), body)


def fill(app, name, content):
    if name == PAGE:
        content[0] = content[0].replace(PLACE, entries(app.config.book_repository.rstrip("/")))


def link_names(app, name, template, context, doctree):
    if doctree is None or name == PAGE:
        return
    path, source = Path(app.env.doc2path(name)), ""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        source = "\n".join(
            cell.source for cell in cells if cell.cell_type == "code" and "import" in cell.source
        )
    context["body"] = linked(context["body"], imported(source), targets())


def setup(app):
    app.connect("source-read", fill)
    # What it is made of lies outside the page: it is read again at each build.
    app.connect("env-get-outdated", lambda app, *_: [PAGE])
    app.connect("html-page-context", link_names, priority=400)  # before the notebooks are made of the pages
    return {"parallel_read_safe": True}
