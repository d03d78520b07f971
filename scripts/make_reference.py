"""Write docs/reference.md: every public name and every command, from their own docstrings and help.

    python scripts/make_reference.py
"""
import copy
import inspect
from pathlib import Path

import click

import gilt
from gilt.cli import gilt as commands

HERE = Path(__file__).resolve().parent.parent
HELP = {"help_option_names": commands.context_settings["help_option_names"]}


def reference() -> str:
    """Return the page as Markdown."""
    parts = ["# Reference\n", "Made by `scripts/make_reference.py` from the docstrings; the tests hold it against them.\n",
             "## Python\n"]
    for name in gilt.__all__:
        if name != "__version__":
            value = getattr(gilt, name)
            parts.append(f"### `gilt.{name}`\n\n```text\n{_head(name, value)}\n\n{inspect.getdoc(value)}\n```\n")
    parts.append("## Command line\n")
    for words, command in _commands(commands, "gilt"):
        command = copy.copy(command)
        command._help_option = None  # click keeps the first that it made, whatever the context said
        context = click.Context(command, info_name=words, max_content_width=100, terminal_width=100,
                                **HELP)
        parts.append(f"### `{words}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _head(name: str, value: object) -> str:
    if inspect.isclass(value) and issubclass(value, BaseException):
        return f"{name}(Exception)"
    if inspect.isclass(value) and hasattr(value, "model_fields"):
        lines = [f"  {field} = {info.get_default(call_default_factory=True)!r}" if not info.is_required() else f"  {field}"
                 for field, info in value.model_fields.items()]
        return "\n".join([name, *lines])
    signature = inspect.signature(value)  # type: ignore[arg-type]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return f"{name}{signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"


def _commands(group: click.Group, path: str):
    for word, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            if hasattr(command, "default"):  # the group is a command too
                yield f"{path} {word}", command.default
            yield from _commands(command, f"{path} {word}")
        else:
            yield f"{path} {word}", command


if __name__ == "__main__":
    (HERE / "docs" / "reference.md").write_text(reference())
