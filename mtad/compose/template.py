"""Jinja2 templates: sandboxed, strict about names, escaped in HTML. Pure.

Everything that can be known when a template is applied is said then, with file and
line: a name that no contact has, a syntax error, a way out of the sandbox. What
depends on the contact is found when the mail is composed, as a ContentFault.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.visitor import NodeTransformer

from mtad.base.errors import InputError
from mtad.compose.faults import ContentFault
from mtad.compose.links import CALL
from mtad.compose.mime import quoted
from mtad.compose.names import Filling, Names
from mtad.compose.sandbox import GLOBALS, Environment, TooMuch
from mtad.compose.text import has_marks, marked

# Names that a template may use beside the attributes of contacts.
RESERVED = frozenset({"email", "locale", "zone", "imprint", "unsubscribe_url", "preferences_url"})

# Ours: the calls that stand for links and the pixel. Authors may not use them.
OWN_PREFIX = "mtad_"

_LOADERS = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)

_HTML = Environment(autoescape=True)
_TEXT = Environment(autoescape=False)
_QUOTED_HTML = Environment(autoescape=True, quoted=quoted)
_QUOTED_TEXT = Environment(autoescape=False, quoted=quoted)
_MARKED_TEXT = Environment(autoescape=False, quoted=marked)


def compiled(source: str) -> Template:
    """A template of a header ready to render; `source` was checked when it was applied."""
    return _TEXT.from_string(source)


def compiled_html(source: str) -> Template:
    """A template of a body: what it renders is quoted-printable already, see mime.quoted.

    A link that no values stand behind is asked for by name: `mtad_link_3`.
    """
    return _QUOTED_HTML.from_string(_Naming().visit(_QUOTED_HTML.parse(source)))


def compiled_text(source: str) -> Template:
    """Likewise for plain text. With marks in it, what it renders has to be settled."""
    return (_MARKED_TEXT if has_marks(source) else _QUOTED_TEXT).from_string(source)


class _Naming(NodeTransformer):
    def visit_Call(self, node: nodes.Call) -> nodes.Expr:  # noqa: N802 - Jinja2's
        self.generic_visit(node)
        match node:
            case nodes.Call(node=nodes.Name(name=name), args=[nodes.Const(value=position)]) if name == CALL:
                return nodes.Name(f"{CALL}_{position}", "load", lineno=node.lineno)
        return node


def rendered(template: Template, values: Names, part: str) -> str:
    """What it says to one contact; ContentFault when that cannot be made. `part` is named in it."""
    environment = template.environment
    assert isinstance(environment, Environment)
    environment.begin()
    try:
        return environment.concat(template.root_render_func(Filling(environment, values)))
    except UndefinedError as error:
        reason = error.message or ""
        raise ContentFault(
            reason if reason.startswith(("missing_value:", "content:")) else "content:undefined"
        ) from None
    except ContentFault:
        raise
    except TooMuch as error:
        raise ContentFault(f"content:{part}: {error}") from None
    except Exception as error:  # noqa: BLE001 - an author's arithmetic can raise anything
        raise ContentFault(f"content:{part}: {type(error).__name__}") from None


def check(source: str, where: str, known: Collection[str], *, html: bool) -> frozenset[str]:
    """Refuse what no contact could be mailed with; the names that the template asks for.

    InputError: `where:LINE: what is wrong`. `known` are the attributes that contacts have.
    """
    environment = _HTML if html else _TEXT
    try:
        tree = environment.parse(source)
        # Unknown filters and tests are found only here.
        environment.compile(environment.parse(source))
        asked = find_undeclared_variables(tree)
    except TemplateSyntaxError as error:
        raise InputError(f"{where}:{error.lineno}: {error.message}") from None
    except TemplateError as error:
        raise InputError(f"{where}: {error.message}") from None
    except RecursionError:
        raise InputError(f"{where}: the template is nested too deeply") from None
    for line, why in _refusals(tree):
        raise InputError(f"{where}:{line}: {why}")
    allowed = {*known, *RESERVED}
    for name in sorted(asked - allowed):
        raise InputError(f"{where}:{_line_of(tree, name)}: no contact has an attribute {name!r}{_guess(name, allowed)}")
    _try(source, where, known, html=html)
    return frozenset(asked)


def _refusals(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    for node in tree.find_all((*_LOADERS, nodes.Call, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Name)):
        match node:
            case nodes.Call(node=nodes.Getattr(attr="format" | "format_map")):
                yield node.lineno, "the method format is not allowed: write '%s' | format(value)"
            case nodes.Getattr(attr=str(name)) | nodes.Getitem(arg=nodes.Const(value=str(name))) if name.startswith(
                "_"
            ):
                yield node.lineno, f"{name} is not allowed: it leads out of the sandbox"
            case nodes.Filter(name="attr"):
                yield node.lineno, "the filter attr is not allowed: it leads out of the sandbox"
            case nodes.Name(name=name) if name.startswith(OWN_PREFIX):
                yield node.lineno, f"{name}: names that begin with {OWN_PREFIX} are reserved"
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends() | nodes.Block():
                yield node.lineno, "a message is one file: include, import, extends and block are not available"


def _try(source: str, where: str, known: Collection[str], *, html: bool) -> None:
    """Render once with a stand-in: some ways out of the sandbox and beyond its bounds show only then."""
    values = dict.fromkeys((*known, *RESERVED), "x")
    environment = _HTML if html else _TEXT
    environment.begin()
    try:
        environment.from_string(source).render(values)
    except TooMuch as error:
        raise InputError(f"{where}: {error}") from None
    except SecurityError as error:
        what = (error.message or "").removeprefix("content:").rstrip(".")
        raise InputError(f"{where}: {what}: it leads out of the sandbox") from None
    except Exception:  # noqa: BLE001, S110 - the stand-in's values are no numbers, dates or lists
        pass


def _line_of(tree: nodes.Template, name: str) -> int:
    lines = [node.lineno for node in tree.find_all(nodes.Name) if node.name == name and node.ctx == "load"]
    return min(lines, default=1)


def _guess(name: str, allowed: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(allowed), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def context(email: str, attributes: Mapping[str, Any]) -> Names:
    """The values of one contact. What is null or empty counts as missing, so `default` applies."""
    values = Names(GLOBALS)
    if None in attributes.values() or "" in attributes.values():
        attributes = {name: value for name, value in attributes.items() if value is not None and value != ""}
    values.update(attributes)
    values["email"] = email
    return values
