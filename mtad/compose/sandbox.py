"""Jinja2's sandbox with bounds on time and memory. Pure.

The sandbox of Jinja2 keeps a template from leaving; it does not keep `'x' * n` from
taking the worker's memory, nor two loops in one another from taking its day. Here no
step of a template makes a text longer than MOST_TEXT, and no rendering has more than
MOST_STEPS turns of loops and calls. What goes beyond is TooMuch, a fault of that mail.

These are bounds for mistakes and for what imported data can do. They keep a step small,
not all 10,000 together fast: who writes templates is trusted with the machine.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import wraps
from typing import Any, cast

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, identity
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing
from jinja2.visitor import NodeTransformer
from markupsafe import escape

MOST_TEXT = 2_000_000  # characters; large providers cut a mail at a twentieth of it
MOST_STEPS = 10_000  # turns of loops, elements of ranges, calls
_MOST_BITS = 4_096  # of a whole number
_SHORT = 78  # characters; a line of quoted-printable
_TOO_LONG = f"more than {MOST_TEXT} characters"

# Filters whose result grows with a number or a text that they are given.
_GROWING = frozenset({"batch", "center", "indent", "join", "replace", "slice", "tojson", "wordwrap"})

# Of printf's formats, those that ask for 10,000 columns or more, or for a width to be given.
_WIDE = re.compile(r"%[^%a-zA-Z]*(?:\d{5}|\*)")

# What can stand in HTML and in one line of quoted-printable as it is: see mime.quoted.
_PLAIN = re.compile(r"(?!\.)[ !#-%(-;?-~]{1,75}")


class TooMuch(Exception):
    """A template asks for more than it may; the text says what."""


class _Generator(CodeGenerator):
    """Compiles templates whose values are counted before the next is made, and quoted where the environment has it.

    What goes into a buffer is quoted only when it comes out: there it is a value still, that
    macros return, filters change and names hold.
    """

    environment: "Environment"

    def buffer(self, frame: Frame) -> None:
        frame.buffer = self.temporary_identifier()
        self.writeline(f"{frame.buffer} = environment.buffer()")

    def _counts(self, frame: Frame) -> str:
        """Who counts what a value gives; nobody does where `concat` sees each piece before the next is made."""
        if frame.buffer is not None:
            return f"{frame.buffer}.put("
        return "environment.put(" if self.environment.quoted else ""

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802 - Jinja2's
        """What stands between two statements is one piece: to hand over each text and value costs 0.1 µs.

        All values of a piece are made before `concat` sees it, so only where they are counted.
        """
        if not (counts := self._counts(frame)):
            super().visit_Output(node, frame)
            return
        quoted = self.environment.quoted if frame.buffer is None else None
        finalize = self._make_finalize()
        escapes = quoted and frame.eval_ctx.autoescape and not frame.eval_ctx.volatile
        self.writeline("yield ''.join((" if quoted else f"{frame.buffer}.extend((", node)
        for child in node.nodes:
            self.newline(child)
            try:
                const = self._output_child_to_const(child, frame, finalize)
                self.write(repr(quoted(const) if quoted else const))
            except Exception:  # noqa: BLE001 - no constant, or a fault that is the mail's
                self.write("environment.shown(" if escapes else counts)
                if not escapes:
                    self._output_child_pre(child, frame, finalize)
                self.visit(child, frame)
                if not escapes:
                    self._output_child_post(child, frame, finalize)
                self.write(")")
            self.write(",")
        self.write("))")

    def start_write(self, frame: Frame, node: nodes.Node | None = None) -> None:
        """The output of `{% filter %}` and `{% call %}`."""
        super().start_write(frame, node)
        self.write(self._counts(frame))

    def end_write(self, frame: Frame) -> None:
        self.write(")" if self._counts(frame) else "")
        super().end_write(frame)


class _Buffer(list[str]):
    """What a macro or a block puts together; TooMuch as soon as its values are too long."""

    def __init__(self) -> None:
        self._room = MOST_TEXT

    def put(self, text: str) -> str:
        self._room -= len(text)
        if self._room < 0:
            raise TooMuch(_TOO_LONG)
        return text


class Missing(StrictUndefined):
    """A name without a value; its error is the reason of the fault."""

    @property
    def _undefined_message(self) -> str:
        name = self._undefined_name
        if self._undefined_obj is missing and name is not None:
            return f"missing_value:{name}"
        return f"content:{self._undefined_hint or f'no element {name}'}"


class Ours:
    """A base of what is called by templates but was not written in them: it is not asked for its safety."""

    __slots__ = ()

    def __call__(self, *args: Any) -> str:  # noqa: ANN401 - whatever the author's expression gives
        raise NotImplementedError


class Environment(ImmutableSandboxedEnvironment):
    """Templates that can do only so much. One rendering at a time; `begin` stands before each.

    With `quoted`, every piece of output goes through it: the template's own text once, when it
    is compiled, what expressions give when it is rendered. quoted(a) + quoted(b) must stand for a + b.
    """

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    buffer = _Buffer

    def __init__(self, *, autoescape: bool, quoted: Callable[[str], str] | None = None) -> None:
        super().__init__(autoescape=autoescape, undefined=Missing, keep_trailing_newline=True, cache_size=0)
        self.quoted = quoted
        self.begin()
        self.globals = dict(GLOBALS)
        self.filters["mtad_joined"] = identity
        making = self.filters.keys() - {"default", "d"}
        self.filters |= {name: _bounded(name, self.filters[name]) for name in making}
        self.filters["mtad_counted"] = self._counted

    def begin(self) -> None:
        """All steps are there again, and all room for output."""
        self._left = MOST_STEPS
        self._room = MOST_TEXT

    def put(self, text: str) -> str:
        """What an expression gives, quoted; TooMuch where the output has no room for it.

        What fits on a line is not counted here: there is no more of it than the template has expressions.
        """
        assert self.quoted is not None
        piece = self.quoted(text)
        if len(piece) > _SHORT:
            self._room -= len(piece)
            if self._room < 0:
                raise TooMuch(_TOO_LONG)
        return piece

    def shown(self, value: object) -> str:
        """Likewise of what has to be escaped."""
        if type(value) is str and _PLAIN.fullmatch(value) and "  " not in value:
            return f"{value}=\r\n"
        return self.put(escape(value))

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Put together the output of a template, a macro or a block."""
        out: list[str] = []
        length = 0
        for piece in pieces:
            length += len(piece)
            if length > MOST_TEXT:
                raise TooMuch(_TOO_LONG)
            out.append(piece)
        return "".join(out)

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Jinja2's
        self.charge(1)
        if isinstance(called, Ours):
            return called(*args)
        owner = getattr(called, "__self__", None)
        if isinstance(owner, str | bytes | int):
            _require_small(owner, *args, *kwargs.values())
        return super().call(context, called, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - Jinja2's
        if operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _require(len(left) + len(right) <= MOST_TEXT)
        elif operator == "%" and isinstance(left, str):
            _require(not _WIDE.search(left))
        elif operator == "*" and isinstance(left, Sized):
            _require_small(left, right)
        elif operator == "*" and isinstance(right, Sized):
            _require_small(right, left)
        elif operator == "*" and isinstance(left, int) and isinstance(right, int):
            _require(left.bit_length() + right.bit_length() <= _MOST_BITS)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _require(left.bit_length() * right <= _MOST_BITS)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401 - Jinja2's
        """Widths of str.format may stand in values, where nobody sees them."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("the method format is not allowed")
        return None

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    @pass_context  # or loops over literals would be counted once, when they are compiled
    def _counted(self, _context: Context, values: Any) -> Iterable[Any]:  # noqa: ANN401 - whatever is looped over
        if isinstance(values, Sized):
            self.charge(len(values))
            return values  # type: ignore[return-value]
        return self._one_by_one(values)

    def _one_by_one(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.charge(1)
            yield value

    def charge(self, steps: int) -> None:
        """Take steps of those that are left; TooMuch where they are not."""
        self._left -= steps
        if self._left < 0:
            raise TooMuch(f"more than {MOST_STEPS} turns of loops and calls")


@pass_context
def _range(context: Context, *bounds: int) -> range:
    numbers = range(*bounds)
    cast(Environment, context.environment).charge(len(numbers))
    return numbers


GLOBALS: Mapping[str, Any] = {"dict": dict, "namespace": Namespace, "range": _range}


class _Counting(NodeTransformer):
    """Puts filters around what loops go over and what `~` makes: Jinja2 has no other way in there."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - Jinja2's
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "mtad_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - Jinja2's
        self.generic_visit(node)
        return nodes.Filter(node, "mtad_joined", [], [], None, None, lineno=node.lineno)


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that asks before it makes something large; wraps keeps what Jinja2 has noted on it."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0  # where the value stands

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Jinja2's
        if name in _GROWING:
            _require_small(*args[at:], *kwargs.values())
        elif name == "format" and isinstance(args[at], str):
            _require(not _WIDE.search(args[at]))
        result = function(*args, **kwargs)
        _require(not isinstance(result, str) or len(result) <= MOST_TEXT)
        return result

    return bounded


def _require_small(value: object, *others: object) -> None:
    """What a repetition, a padding or a replacement can come to, by the length of `value` and the largest other."""
    length = 0 if isinstance(value, int) else _size(value)
    _require((length + 1) * (max(map(_size, others), default=0) + 1) <= 2 * MOST_TEXT)


def _size(value: object) -> int:
    if isinstance(value, int):
        return abs(value)
    return len(value) if isinstance(value, Sized) and not isinstance(value, Missing) else 0


def _require(small: bool) -> None:
    if not small:
        raise TooMuch("a text, a list or a number becomes too large")
