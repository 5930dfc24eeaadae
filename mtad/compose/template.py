"""Jinja2 templates: sandboxed, strict about names, escaped in HTML. Pure.

Everything that can be known when a template is applied is said then, with file and
line: a name that no contact has, a syntax error, a way out of the sandbox. What
depends on the contact is found when the mail is composed, as a ContentFault.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from mtad.base.errors import InputError
from mtad.compose.faults import ContentFault

# Names that a template may use beside the attributes of contacts.
RESERVED = frozenset({"email", "locale", "zone", "imprint", "unsubscribe_url"})

# Ours: the calls that stand for links and the pixel. Authors may not use them.
OWN_PREFIX = "mtad_"

_GLOBALS = frozenset({"range", "dict", "namespace"})
_LOADERS = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class _Missing(StrictUndefined):
    """A name without a value; its error is the reason of the fault."""

    @property
    def _undefined_message(self) -> str:
        name = self._undefined_name
        if self._undefined_obj is missing and name is not None:
            return f"missing_value:{name}"
        return f"content:{self._undefined_hint or f'no element {name}'}"


class _Environment(ImmutableSandboxedEnvironment):
    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(autoescape=autoescape, undefined=_Missing, keep_trailing_newline=True, cache_size=0)
        self.globals = {name: value for name, value in self.globals.items() if name in _GLOBALS}


_HTML = _Environment(autoescape=True)
_TEXT = _Environment(autoescape=False)


def compiled(source: str, *, html: bool) -> Template:
    """A template ready to render; `source` was checked when it was applied."""
    return (_HTML if html else _TEXT).from_string(source)


def rendered(template: Template, values: Mapping[str, object], part: str) -> str:
    """The text for one contact; ContentFault when it cannot be made. `part` is named in it."""
    try:
        return template.render(values)
    except UndefinedError as error:
        reason = error.message or ""
        raise ContentFault(
            reason if reason.startswith(("missing_value:", "content:")) else "content:undefined"
        ) from None
    except ContentFault:
        raise
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
    for node in tree.find_all((*_LOADERS, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Name)):
        match node:
            case nodes.Getattr(attr=str(name)) | nodes.Getitem(arg=nodes.Const(value=str(name))) if name.startswith(
                "_"
            ):
                yield node.lineno, f"{name} is not allowed: it leads out of the sandbox"
            case nodes.Filter(name="attr"):
                yield node.lineno, "the filter attr is not allowed: it leads out of the sandbox"
            case nodes.Name(name=name) if name.startswith(OWN_PREFIX):
                yield node.lineno, f"{name}: names that begin with {OWN_PREFIX} are reserved"
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                yield node.lineno, "a message is one file: include, import and extends are not available"


def _try(source: str, where: str, known: Collection[str], *, html: bool) -> None:
    """Render once with a stand-in: some ways out of the sandbox show only then."""
    values = dict.fromkeys((*known, *RESERVED), "x")
    try:
        (_HTML if html else _TEXT).from_string(source).render(values)
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


def context(email: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one contact. What is null or empty counts as missing, so `default` applies."""
    values = {name: value for name, value in attributes.items() if value is not None and value != ""}
    values["email"] = email
    return values
