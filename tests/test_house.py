"""The house: imports run downwards, torch stays in its rooms, start-up is quick, names and commands are documented."""
import ast
import inspect
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import gilt
from gilt.cli import gilt as command_group

SOURCE = Path(gilt.__file__).parent
FLOORS = [{"errors", "settings", "training", "config", "files"}, {"data", "models", "evaluation"}, {"engine"}, {"generators"},
          {"studies"}, {"reports"}, {"serve", "cli"}, {"__main__"}]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TORCH_ROOMS = {"models", "engine", "generators"}
MODULES = sorted(SOURCE.rglob("*.py"))


def name(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, *, at_top=False):
    """Yield the modules that a file imports: everywhere, or where importing the file imports them."""
    tree = ast.parse(path.read_text())
    if at_top:
        nodes = [node for top in tree.body if not isinstance(top, (ast.FunctionDef, ast.ClassDef))
                 and "TYPE_CHECKING" not in ast.dump(top) for node in ast.walk(top)]
    else:
        nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_run_downwards_and_rooms_of_one_floor_do_not_know_each_other(path):
    room = name(path).split(".")[0]
    for module in imports(path):
        if module.startswith("gilt."):
            other = module.split(".")[1]
            down = FLOOR[other] < FLOOR[room] or FLOOR[room] == FLOOR[other] == 0
            assert other == room or down, f"{name(path)} -> {module}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_torch_is_imported_in_its_own_rooms_only(path):
    if name(path).split(".")[0] not in TORCH_ROOMS:
        assert not [module for module in imports(path) if module.split(".")[0] in ("torch", "torchvision")]


@pytest.mark.parametrize("code", [
    "import gilt", "import sys; sys.argv = ['gilt', '--help']; from gilt.cli import main; main()"])
def test_starting_is_quick_and_loads_no_torch(code):
    check = f"import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, 'pandas' in sys.modules))\n{code}"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout
        times.append(time.perf_counter() - start)
        assert out.strip().endswith("False False")
    assert min(times) < 0.5


def test_the_data_rooms_need_no_torch():
    code = "import gilt, sys; gilt.scan, gilt.split, gilt.mix, gilt.PixelCache, gilt.evaluate, gilt.compare, gilt.report; " \
           "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_pinned():
    assert gilt.__all__ == sorted([
        "Audit", "BalanceConfig", "Calibration", "ChooseConfig", "Classifier", "CleanConfig", "ConfigError", "Detection",
        "Effect", "Evaluation", "Executor", "ExplainConfig", "Explanation", "FeaturesConfig", "Finding", "Generator",
        "GeneratorConfig", "GiltError", "HeadConfig", "ImageError", "ImageTable", "LayoutError", "Metric", "MissingExtraError",
        "MixConfig", "ModelError", "PixelCache", "Predictions", "Preprocessing", "Similarity", "SimilarityConfig", "SplitCheck",
        "SplitConfig", "Store", "StoreError", "Study", "TableError", "TrainConfig", "TranslateConfig", "TrialConfig",
        "TrialRecord", "Tuning", "__version__", "across", "adopt", "adopt_detector", "apply_split", "audit", "augment_preview",
        "balance", "best_sets", "changes_of", "chronological", "class_changes", "clean", "compare", "confused_pairs", "create",
        "cross_collection", "decide", "detection", "detection_page", "evaluate", "explain", "explanation_page", "export",
        "fit_calibration", "folds", "generate", "heat_table", "image_changes", "join", "judgement", "known_detectors",
        "leave_one_generator_out", "leave_one_out", "list_models", "load_classifier", "load_generator", "mix", "model_card",
        "overview", "p_generated", "perturb", "predict", "presets", "protocol_page", "protocol_result", "published_rows",
        "recipes", "regrets", "report", "robustness", "robustness_page", "run_protocol", "run_study", "save_split", "scan",
        "seeds_needed", "show", "similarity", "similarity_page", "split", "submission", "train", "train_generator", "translate",
        "tune", "verify_split", "worst_classes", "worth", "write_card", "write_tables"])
    for public in gilt.__all__:
        assert getattr(gilt, public) is not None
    with pytest.raises(AttributeError, match="no attribute 'scann'"):
        gilt.scann  # noqa: B018


@pytest.mark.parametrize("public", [n for n in gilt.__all__ if n != "__version__"])
def test_public_names_have_docstrings_and_types(public):
    value = getattr(gilt, public)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        assert len(signature.parameters) <= 7


def commands(group, path=("gilt",)):
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            if hasattr(command, "default"):  # the group is a command too
                yield " ".join((*path, word)), command.default
            yield from commands(command, (*path, word))
        else:
            yield " ".join((*path, word)), command


@pytest.mark.parametrize("words, command", list(commands(command_group)))
def test_every_command_has_help_with_an_example(words, command):
    assert command.help
    assert f"Example:\n  {words} " in command.epilog or f"Example:\n  {words}\n" in f"{command.epilog}\n"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_stay_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)) or not text.strip()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_functions_stay_short(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 45, f"{node.name}: {node.end_lineno - node.lineno + 1} lines"


def test_the_library_never_prints_or_exits():
    for path in MODULES:
        if name(path).split(".")[0] in ("cli", "__main__"):
            continue
        calls = [node.func.id for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        assert not {"print", "exit", "quit"} & set(calls), name(path)


def test_only_the_executors_catch_everything():
    for path in MODULES:
        handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
        wide = [h for h in handlers if h.type is None or (isinstance(h.type, ast.Name) and h.type.id in ("Exception",))]
        assert not wide or name(path) == "studies.executors", name(path)
